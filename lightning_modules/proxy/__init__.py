"""Proxies for the metrics' official networks, trained on synthetic speakers."""
