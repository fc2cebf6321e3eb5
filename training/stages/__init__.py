"""What can be trained: the base of all stages, and the project's own four."""
