"""Synthetic speakers, written in the layout of MEAD or HDTF."""

from __future__ import annotations

from configs.preparation import DatasetConfig
from configs.registries import DATASETS
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Listing


class Synthetic(Dataset):
    """The clips that ``preparation.synthetic`` makes."""

    name = "synthetic"

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """As the layout they are written in."""
        found: tuple[list[ClipSource], list[str]] = DATASETS.get(config.layout, "dataset.layout")().clips(
            listing, config
        )
        return found
