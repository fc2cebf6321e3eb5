"""The metrics as pure functions."""
