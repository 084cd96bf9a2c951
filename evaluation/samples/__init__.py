"""Sampling, prompts and held-out tunes."""
