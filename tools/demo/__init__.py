"""``make demo`` and ``make demo-real``: the whole way from raw videos to talking heads and a page of their scores."""
