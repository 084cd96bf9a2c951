"""A study on a GPU that is available for minutes at a time."""
