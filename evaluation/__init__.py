"""What the models are worth: samples, judges, metrics, reports."""
