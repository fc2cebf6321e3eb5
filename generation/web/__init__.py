"""The web page behind app.py. It turns uploads into cases for the pipeline in ``generation/``."""
