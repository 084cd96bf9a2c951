"""The laws and their registry."""
