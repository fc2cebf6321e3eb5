"""What a dataset is: how its clips are named, and how its people are split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts.listing import Listing


class Dataset:
    """Base of all datasets; one of a lab's own is named ``dataset.name=module.Class``.

    Attributes:
        name: in configurations and indexes.
        splits: scheme -> a file of ``datamodules/splits``, or a rule: ``person`` (by a hash of the speaker) or
            ``train``. Both rules are schemes of every dataset, too.
        shared_speakers: schemes that were published with the same people on two sides.
        annotated: whether ``dataset.annotations`` cuts its videos.
    """

    name: ClassVar[str]
    splits: ClassVar[Mapping[str, str]] = {"emotivetalk": "person"}
    shared_speakers: ClassVar[tuple[str, ...]] = ()
    annotated: ClassVar[bool] = False

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Every video of the listing as a clip, and notes on this copy; ``split`` is still to be assigned.

        No video is opened. What a name does not tell is reported as a ``problem``, never passed over.
        """
        raise NotImplementedError
