"""Feature networks of the metrics, with the key names of the original checkpoints."""
