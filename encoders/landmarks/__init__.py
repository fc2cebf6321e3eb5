"""Landmark detectors, and what their points mean."""
