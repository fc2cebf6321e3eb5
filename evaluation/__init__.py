"""Measuring what the trained stages do."""
