"""``make demo`` and ``make demo-real``: from raw videos to talking heads and a page with their scores."""
