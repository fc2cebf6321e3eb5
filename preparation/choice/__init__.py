"""Chooses shots of a scan by an expression over its columns."""
