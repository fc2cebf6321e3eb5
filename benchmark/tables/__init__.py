"""Builds the paper's four tables from results/*.json and writes them as Markdown, LaTeX, CSV and HTML."""
