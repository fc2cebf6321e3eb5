"""Configuration: Hydra groups that mirror the packages, their typed schemas, and the command line."""
