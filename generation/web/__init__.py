"""The page behind app.py: what visitors upload becomes cases for the one pipeline in ``generation/``."""
