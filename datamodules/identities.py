"""Who is in shards, and the check that nobody is on two sides of a split, over all roots of a training.

``identities.npz`` next to an index holds a fingerprint of the video of each sample, and a vector of the face of each
speaker where ArcFace's weights were there. Shards of before have none: their people are known by name alone.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datamodules.schema import SPLITS, Index, ShardError

IDENTITIES_NAME = "identities.npz"
NAMED = 3  # people or videos that a message names


@dataclass(frozen=True)
class Identities:
    """Content of ``identities.npz``.

    Attributes:
        content: Sample key -> fingerprint of its video and sound.
        speakers: Names of speakers, once for each person under that name.
        vectors: (P, D) float32 unit vectors of those people.
    """

    content: dict[str, str] = field(default_factory=dict)
    speakers: tuple[str, ...] = ()
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @classmethod
    def read(cls, root: str) -> Identities:
        """Reads the file in a folder of shards; empty if there is none, as on remote roots.

        Raises:
            ShardError: If it is damaged.
        """
        path = Path(root).expanduser() / IDENTITIES_NAME
        try:
            with np.load(path, allow_pickle=False) as stored:
                keys, content = stored["keys"].tolist(), stored["content"].tolist()
                speakers, vectors = stored["speakers"].tolist(), stored["vectors"].astype(np.float32)
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return cls()
            raise ShardError(f"{path}: cannot be read ({error})") from error
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ShardError(f"{path}: damaged ({error}); run prepare.py task=merge again") from error
        if len(keys) != len(content) or len(speakers) != len(vectors) or vectors.ndim != 2:
            raise ShardError(f"{path}: damaged (its arrays differ in length); run prepare.py task=merge again")
        return cls(dict(zip(map(str, keys), map(str, content), strict=True)), tuple(map(str, speakers)), vectors)


@dataclass(frozen=True)
class RootPeople:
    """Samples of one root with their sides.

    Attributes:
        root: Folder or URL of the shards.
        index: Its index of N samples.
        names: Code -> split.
        splits: (N,) code of each sample's split.
        sides: Speaker -> splits in which the speaker occurs.
        shared: Whether its split shares speakers on purpose.
    """

    root: str
    index: Index
    names: Mapping[int, str]
    splits: np.ndarray
    sides: Mapping[str, set[str]]
    shared: bool = False


def check_people(roots: Sequence[RootPeople]) -> None:
    """Rejects splits in which a video or a person is on several of train, val and test.

    A person is known by the speaker's name within a dataset, and by the face over datasets.

    Raises:
        ShardError: If one is; the message names some.
    """
    found = [(root, Identities.read(root.root)) for root in roots if not root.shared]
    problems = [*_on_several_sides(_videos(found)), *_on_several_sides(_people(found))]
    if problems:
        more = f", and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ShardError(
            f"{len(problems)} videos or people are on several sides of the split: {'; '.join(problems[:NAMED])}{more}. "
            "Scores would not be of unseen people. Prepare the later dataset again with task=scan, task=encode and "
            "dataset.known=FOLDER_OF_THE_OTHER_SHARDS, which gives a person the same side"
        )


Member = tuple[str, str]  # name and side


def _videos(found: Sequence[tuple[RootPeople, Identities]]) -> Iterator[list[Member]]:
    same: dict[str, list[Member]] = defaultdict(list)
    for root, identities in found:
        if not identities.content:
            continue
        for key, code in zip(root.index.samples.keys_of(), root.splits.tolist(), strict=True):
            if key in identities.content:
                same[identities.content[key]].append((f"{root.root}: {key}", root.names[code]))
    yield from same.values()


def _people(found: Sequence[tuple[RootPeople, Identities]]) -> Iterator[list[Member]]:
    from metrics.functional.face_identity import groups_of_people

    sides: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for root, _ in found:
        for speaker, those in root.sides.items():
            sides[root.index.dataset, speaker][root.root] |= those
    for (_, speaker), of_roots in sides.items():
        yield [(f"{root}: {speaker}", side) for root, those in of_roots.items() for side in sorted(those)]
    faces = [
        (f"{root.root}: {speaker}", sides[root.index.dataset, speaker][root.root], vector)
        for root, identities in found
        for speaker, vector in zip(identities.speakers, identities.vectors, strict=True)
        if speaker in {name for _, name in sides}
    ]
    if faces:
        groups = groups_of_people(np.stack([vector for *_, vector in faces]))
        same: dict[int, list[Member]] = defaultdict(list)
        for group, (name, those, _) in zip(groups, faces, strict=True):
            same[int(group)] += [(name, side) for side in sorted(those)]
        yield from same.values()


def _on_several_sides(groups: Iterator[list[Member]]) -> Iterator[str]:
    for members in groups:
        first = {side: name for name, side in reversed(members) if side in SPLITS}
        if len(first) > 1:
            yield " is ".join(f"{name} ({side})" for side, name in first.items())
