"""HTML pages with scores and audio players."""
