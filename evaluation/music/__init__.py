"""Musical statistics and distances."""
