"""Conversion over a collection: worker processes, limits, shards, resume."""
