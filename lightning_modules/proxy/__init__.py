"""Proxy networks that replace the metrics' official networks, trained on synthetic speakers."""
