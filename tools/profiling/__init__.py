"""Scripts that measure time and memory, as ratios from one run."""
