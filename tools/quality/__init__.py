"""Measures the quality of a trained stage on held-out clips."""
