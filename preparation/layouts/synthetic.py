"""Synthetic speakers in the layout of MEAD or HDTF."""

from __future__ import annotations

from configs.preparation import DatasetConfig
from configs.registries import DATASETS
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Listing


class Synthetic(Dataset):
    """Clips rendered by ``preparation.synthetic``."""

    name = "synthetic"

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Lists the clips with the dataset class of their layout, ``config.layout``."""
        found: tuple[list[ClipSource], list[str]] = DATASETS.get(config.layout, "dataset.layout")().clips(
            listing, config
        )
        return found
