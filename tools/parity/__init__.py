"""Certificate of parity with the original repositories of the metrics."""
