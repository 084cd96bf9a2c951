"""Evaluation of the models: samples, judges, metrics, reports."""
