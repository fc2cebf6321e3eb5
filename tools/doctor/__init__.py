"""Checks of a machine, and of a run, data, an export or an output folder; each finding with its remedy."""
