"""Musical statistics, distances and memorization."""
