"""Blocks in, validation out."""
