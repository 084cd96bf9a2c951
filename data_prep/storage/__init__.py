"""Atomically written stages, tables in parts, identity by content."""
