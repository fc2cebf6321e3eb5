"""Who is in shards, and the check that nobody is on two sides of a split, over all roots of a training.

``identities.npz`` next to an index holds a fingerprint of the video of each sample, and a vector of the face of each
speaker where ArcFace's weights were there. It is read as the index is, also from remote roots. Shards of before have
none: their people are known by name alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from datamodules.remote import Unavailable, address, is_remote, read_file
from datamodules.schema import SPLITS, Index, ShardError

log = logging.getLogger(__name__)

IDENTITIES_NAME = "identities.npz"
MAX_BYTES = 2**30  # of its arrays; those of 100,000 clips have 40 MB
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
        """Reads the file of a folder, a URL or a command; empty if there is none, which is noted for remote roots.

        Raises:
            ShardError: If it is damaged.
        """
        where = address(root, IDENTITIES_NAME) if is_remote(root) else f"{Path(root) / IDENTITIES_NAME}"
        try:
            with _opened(root) as file:
                return cls() if file is None else cls._of(file)
        except OSError as error:
            raise ShardError(f"{where}: cannot be read ({error})") from error
        except (ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            raise ShardError(f"{where}: damaged ({error}); run prepare.py task=merge again") from error

    @classmethod
    def _of(cls, file: IO[bytes]) -> Identities:
        with zipfile.ZipFile(file) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"its arrays have {size} bytes, expected at most {MAX_BYTES}")
        with np.load(file, allow_pickle=False) as stored:
            keys, content, speakers = (stored[name].tolist() for name in ("keys", "content", "speakers"))
            vectors = stored["vectors"].astype(np.float32)
        if len(keys) != len(content) or len(speakers) != len(vectors) or vectors.ndim != 2:
            raise ValueError("its arrays differ in length")
        if not np.isfinite(vectors).all():
            raise ValueError("its vectors have values that are not numbers")
        return cls(dict(zip(map(str, keys), map(str, content), strict=True)), tuple(map(str, speakers)), vectors)


def _opened(root: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    """The file of a root, opened; None if there is none."""
    if is_remote(root):
        try:
            return io.BytesIO(read_file(root, IDENTITIES_NAME, MAX_BYTES))
        except Unavailable as error:
            log.warning("%s: has no %s, so its people are known by name alone (%s)", root, IDENTITIES_NAME, error)
            return contextlib.nullcontext()
    try:
        return (Path(root).expanduser() / IDENTITIES_NAME).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return contextlib.nullcontext()


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
