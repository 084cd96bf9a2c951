"""A tune as read -> a score: ties, ornaments, repeats, parts."""
