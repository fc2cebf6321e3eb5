"""The networks behind the metrics, with the original key names, and how their checkpoints are read."""
