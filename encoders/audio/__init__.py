"""Speech to per-frame features."""
