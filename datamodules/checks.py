"""Which splits are refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from datamodules.schema import SPLITS, Index, ShardError
from datamodules.splits import shares_speakers

log = logging.getLogger(__name__)


def check_sides(root: str, index: Index, scheme: str, sides: Mapping[str, set[str]]) -> None:
    """Refuses a split with the same person on two sides, unless it was published so.

    Args:
        root: for messages.
        index: of the shards; it names the scheme a stored split was made by.
        scheme: ``data.split``.
        sides: speaker -> splits he or she occurs in.

    Raises:
        ShardError: naming people.
    """
    both = sorted(speaker for speaker, splits in sides.items() if len(splits & set(SPLITS)) > 1)
    if not both:
        return
    names = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
    made_with = index.split if scheme == "stored" else scheme
    if shares_speakers(index.dataset, made_with):
        log.warning("%s: split %s has %d people on two sides (%s), as published", root, made_with, len(both), names)
        return
    raise ShardError(
        f"{root}: split {scheme!r} has {len(both)} people on two sides ({names}); scores would not be of unseen "
        "people. Choose a data.split by person, or prepare the data again"
    )
