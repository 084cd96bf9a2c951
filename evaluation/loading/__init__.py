"""Finished runs and models."""
