"""FID, FVD, Sync-C and Sync-D, E-FID: torchmetrics Metrics on a pure functional core, and their networks."""
