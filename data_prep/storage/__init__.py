"""Stages that appear whole, tables in parts, identity by content."""
