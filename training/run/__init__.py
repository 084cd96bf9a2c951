"""One run: its folder, branches, checkpoints, progress."""
