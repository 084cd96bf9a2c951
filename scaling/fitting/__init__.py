"""Fitting a law to runs, and the limits of the fit."""
