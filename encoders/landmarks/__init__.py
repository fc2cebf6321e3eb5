"""Landmark detectors, landmark schemes, and boxes from landmarks."""
