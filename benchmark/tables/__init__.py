"""The paper's four tables from results/*.json: read, lay out, write as Markdown, LaTeX, CSV and HTML."""
