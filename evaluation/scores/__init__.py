"""Engraved scores."""
