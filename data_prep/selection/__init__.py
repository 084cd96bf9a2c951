"""Selection of tunes: clean, filter, near-duplicate clusters, split."""
