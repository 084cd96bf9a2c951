"""A model's first concert: tunes, a passage and an accompaniment, as files and a page."""
