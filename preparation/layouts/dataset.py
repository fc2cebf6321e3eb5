"""Base class of datasets: how clips are named and speakers are split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts.listing import Listing


class Dataset:
    """Base class of all datasets. A user-defined dataset is selected with ``dataset.name=module.Class``.

    Attributes:
        name: Name in configurations and indexes.
        splits: Scheme -> file of ``datamodules/splits`` or rule: ``person`` (by a hash of the speaker) or ``train``.
            Both rules are also schemes of every dataset.
        shared_speakers: Published schemes that have the same speakers in several splits.
        own_splits: Whether a clip's own split, where it has one, is kept.
        annotated: Whether the dataset takes ``dataset.annotations``.
    """

    name: ClassVar[str]
    splits: ClassVar[Mapping[str, str]] = {"emotivetalk": "person"}
    shared_speakers: ClassVar[tuple[str, ...]] = ()
    own_splits: ClassVar[bool] = False
    annotated: ClassVar[bool] = False

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts every video of the listing to a clip; the caller assigns ``split``.

        No video is opened. A name that cannot be parsed gives a clip with a ``problem``.

        Args:
            listing: Files of the source folder; ignored files are counted in ``listing.ignored``.
            config: Dataset settings.

        Returns:
            The clips, and notes on this copy of the dataset.
        """
        raise NotImplementedError
