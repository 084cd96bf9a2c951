"""Sampling, prompts, held-out tunes."""
