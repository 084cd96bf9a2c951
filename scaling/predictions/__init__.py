"""Predictions of fitted laws: costs, frontier, crossover."""
