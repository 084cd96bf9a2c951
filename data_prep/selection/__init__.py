"""What is kept: clean, filter, near-duplicate clusters, split."""
