"""Loads finished runs and models."""
