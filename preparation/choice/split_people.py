"""Sides of people: clips of one speaker, of one video and of one face are on one side of a split.

The sides of a split by person follow from the name of the speaker. A scan knows more: a person with two names, and one
video under two names, would be on two sides. Here they get one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.preparation import DatasetConfig
from configs.registries import DATASETS
from datamodules.identities import Identities
from datamodules.remote import read_index
from datamodules.splits import named_splits, person_hash_split
from media import MediaError
from metrics.functional.face_identity import SAME_PERSON
from preparation.identities import fingerprint

Label = tuple[str, str]
Row = dict[str, Any]
COLUMNS = ["clip", "path", "speaker", "split", "problem", "sha256", "person"]
NAMED = 4  # speakers that a note names


@dataclass
class KnownPeople:
    """Sides of the videos and faces of other shards.

    Attributes:
        content: Fingerprint of a video -> side.
        sides: Side of each vector.
        vectors: (P, D) unit vectors.
    """

    content: dict[str, str] = field(default_factory=dict)
    sides: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def read(cls, roots: Iterable[str]) -> KnownPeople:
        """Reads the people of folders of shards.

        Raises:
            ShardError: If a folder has no index, or a damaged file.
        """
        known = cls()
        for root in roots:
            index, identities = read_index(root), Identities.read(root)
            sides = {sample.speaker: sample.split for sample in index.samples}
            for sample in index.samples:
                if sample.key in identities.content:
                    known.content[identities.content[sample.key]] = sample.split
            for speaker, vector in zip(identities.speakers, identities.vectors, strict=True):
                if speaker in sides:
                    known.sides.append(sides[speaker])
                    known.vectors.append(vector)
        return known

    def side_of(self, contents: Iterable[str], vectors: Sequence[np.ndarray]) -> str | None:
        """Side of a person by any of their videos, or by the nearest face."""
        for content in contents:
            if content in self.content:
                return self.content[content]
        if not vectors or not self.vectors:
            return None
        near = np.stack(self.vectors) @ np.stack(vectors).T
        best = int(near.max(1).argmax())
        return self.sides[best] if near[best].max() >= SAME_PERSON else None


def on_one_side(table: pa.Table, dataset: DatasetConfig) -> tuple[pa.Table, list[str]]:
    """Puts all clips of one person on one side.

    The sides that a published split or a list gives stay, unless ``known`` shards have the person.

    Args:
        table: A scan, with the current speakers and splits of its clips.
        dataset: Settings of the dataset, with its split and ``known`` shards.

    Returns:
        The scan with other sides, and notes on people with several names and on those who stay on several sides.
    """
    scheme = named_splits(dataset.name).get(dataset.split, dataset.split)
    if scheme == "time":
        return table, []
    by_hash = scheme == "person" and not (dataset.name in DATASETS and DATASETS.get(dataset.name).own_splits)
    known = KnownPeople.read(dataset.known)
    wanted = [*COLUMNS, "embedding"] if known.vectors else COLUMNS
    rows = table.select(wanted).to_pylist()
    side_of: dict[str, str] = {}
    notes: list[str] = []
    for group in _connected([row for row in rows if row["problem"] is None]):
        sides, speakers = (sorted({row[name] for row in group}) for name in ("split", "speaker"))
        side = _known_side(group, known) or (sides[0] if len(sides) == 1 else None)
        if side is None and by_hash:
            side = person_hash_split(speakers[0])
        if side is not None:
            side_of |= {row["clip"]: side for row in group}
        else:
            notes.append(f"split {dataset.split} has {_named(speakers)}, one person or video, in {', '.join(sides)}")
        if len(speakers) > 1 and side is not None:
            notes.append(f"{_named(speakers)} are one person or have a video in common: all in {side}")
    column = pa.array([side_of.get(row["clip"], row["split"]) for row in rows], pa.string())
    return table.set_column(table.schema.get_field_index("split"), table.schema.field("split"), column), notes


def _known_side(group: list[Row], known: KnownPeople) -> str | None:
    if not known.content and not known.vectors:
        return None
    contents = []
    for path in sorted({row["path"] for row in group}):
        with suppress(MediaError, OSError):
            contents.append(fingerprint(Path(path)))
    vectors = [np.array(row["embedding"]) for row in group if row.get("embedding") is not None]
    return known.side_of(contents, vectors)


def _named(speakers: Sequence[str]) -> str:
    return ", ".join(speakers[:NAMED]) + (", ..." if len(speakers) > NAMED else "")


def _connected(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of shots that have a speaker, a video or a face in common, also over others."""
    parent: dict[Label, Label] = {}

    def root(label: Label) -> Label:
        parent.setdefault(label, label)
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for row in rows:
        for kind in ("sha256", "person"):
            if row[kind] is not None:
                parent[root((kind, row[kind]))] = root(("speaker", row["speaker"]))
    groups: dict[Label, list[Row]] = defaultdict(list)
    for row in rows:
        groups[root(("speaker", row["speaker"]))].append(row)
    return list(groups.values())
