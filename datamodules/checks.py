"""What a data configuration may be, and which splits are refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields

from configs.data import DataConfig
from configs.registries import DATASETS
from datamodules.schema import SPLITS, Index, ShardError
from datamodules.splits import shares_speakers
from datamodules.windows import FIELDS

log = logging.getLogger(__name__)


def check_config(config: DataConfig) -> None:
    """Checks a data configuration as a whole.

    Raises:
        ValueError: naming the key, its value and what is expected.
    """
    if config.name not in DATASETS and config.name != "mixture":
        DATASETS.get(config.name, "data.name")  # raises
    if unknown := sorted(set(config.fields) - set(FIELDS)):
        raise ValueError(f"data.fields: {', '.join(unknown)} unknown; choose from {', '.join(FIELDS)}")
    for field in dataclass_fields(config):
        value, least = getattr(config, field.name), 0 if field.name in ("workers", "seed") else 1
        if isinstance(value, int) and not isinstance(value, bool) and value < least:
            raise ValueError(f"data.{field.name}={value}: expected a whole number from {least}")
    if config.stage_gib <= 0:
        raise ValueError(f"data.stage_gib={config.stage_gib}: expected a number above 0")
    if config.name != "mixture":
        if config.roots or config.weights:
            raise ValueError(f"data.roots and data.weights belong to data.name=mixture, not {config.name}")
        return
    if config.root or len(config.roots) < 2:
        raise ValueError("data.name=mixture takes two or more data.roots (name: folder or URL) and no data.root")
    if config.weights and set(config.weights) != set(config.roots):
        raise ValueError(
            f"data.weights names {sorted(config.weights)}, data.roots {sorted(config.roots)}; make them equal"
        )
    if wrong := {name: weight for name, weight in config.weights.items() if weight < 1}:
        raise ValueError(f"data.weights: {wrong}: expected whole numbers from 1; leave a root out to not draw from it")


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
