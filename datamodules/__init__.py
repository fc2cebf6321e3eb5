"""Shards and how they become batches: schema, reading, training order, loaders, splits and datamodules."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__, {"MixtureDataModule": "datamodules.mixture", "ShardDataModule": "datamodules.datamodule"}
)
