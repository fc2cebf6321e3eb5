"""``make demo`` and ``make demo-real``: the whole way from raw videos to talking heads with their scores, and its page."""
