"""Scans raw videos on the CPU: one decode of each video, one row of measures for each shot."""
