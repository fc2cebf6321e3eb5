"""Reading shards as batches: schema, shard reader, training order, loaders, splits and Lightning data modules."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__, {"MixtureDataModule": "datamodules.mixture", "ShardDataModule": "datamodules.datamodule"}
)
