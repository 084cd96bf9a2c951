"""Shared by all writers: atomic files, command lines, tables, numbers as text."""
