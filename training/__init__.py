"""Training: what train.py runs."""
