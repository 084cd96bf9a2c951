"""Fitting a law to runs, and what the fit does not say."""
