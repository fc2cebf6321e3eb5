"""Check that no speaker occurs in two splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from datamodules.schema import SPLITS, Index, ShardError
from datamodules.splits import shares_speakers

log = logging.getLogger(__name__)


def sides_of(index: Index, splits: np.ndarray, names: Sequence[str]) -> dict[str, set[str]]:
    """Maps each speaker to the splits in which the speaker occurs.

    Args:
        index: Index of N samples.
        splits: (N,) index of each sample's split.
        names: Names of the splits.
    """
    codes, speakers = index.samples.label_codes("speaker")
    sides: dict[str, set[str]] = {}
    for speaker, split in np.unique(np.stack([codes, splits]), axis=1).T.tolist():
        sides.setdefault(speakers[speaker], set()).add(names[split])
    return sides


def check_sides(root: str, index: Index, scheme: str, sides: Mapping[str, set[str]]) -> None:
    """Rejects a split in which a speaker occurs in more than one of train, val and test, unless published that way.

    Args:
        root: Folder or URL of the shards, for messages.
        index: Index of the shards. It names the scheme of a stored split.
        scheme: Value of ``data.split``.
        sides: speaker -> splits in which the speaker occurs.

    Raises:
        ShardError: If speakers are shared; the message names them.
    """
    shared = sorted(speaker for speaker, splits in sides.items() if len(splits & set(SPLITS)) > 1)
    if not shared:
        return
    names = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
    made_with = index.split if scheme == "stored" else scheme
    if shares_speakers(index.dataset, made_with):
        why = "its scores are not of unseen speakers" if made_with == "time" else "as published"
        log.warning("%s: split %s shares %d speakers (%s), %s", root, made_with, len(shared), names, why)
        return
    raise ShardError(
        f"{root}: split {scheme!r} shares {len(shared)} speakers between train, val and test ({names}); scores would "
        "not be on unseen speakers. Set data.split=person, or prepare the data again"
    )
