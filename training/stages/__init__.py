"""The base class of stages, and the four built-in stages."""
