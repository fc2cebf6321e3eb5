"""Implementation of train.py: stages, strategies, checks before a run, and resuming."""
