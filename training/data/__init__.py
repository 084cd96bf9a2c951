"""Training data: blocks, songs, bundles and validation."""
