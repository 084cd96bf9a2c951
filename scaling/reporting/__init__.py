"""Tables and findings, written into README and results from their files."""
