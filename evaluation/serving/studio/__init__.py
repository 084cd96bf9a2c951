"""The page served locally: the model in Python, and music of any kind dropped in."""
