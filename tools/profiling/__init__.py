"""Scripts that measure time and memory. They report ratios within one run, because absolute numbers vary."""
