"""A study: its file, its plan, its runs."""
