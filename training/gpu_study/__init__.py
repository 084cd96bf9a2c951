"""A study on a GPU that is had for minutes at a time."""
