"""Pages with scores and players."""
