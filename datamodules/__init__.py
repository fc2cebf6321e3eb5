"""Shards and how they become batches: schema, reading, training order, loaders, splits and datamodules."""
