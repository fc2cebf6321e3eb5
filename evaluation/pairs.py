"""Pairs generated and real videos by their path without extension."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from media import VIDEO_ENDINGS
from runtime.errors import UserError


class EvaluationError(UserError):
    """Raised if an evaluation is not possible; the message has the finding and the next step."""


@dataclass(frozen=True)
class Missing:
    """A video that is not part of the results of one metric, or of all metrics.

    Attributes:
        clip: Name of the pair.
        side: ``generated``, ``reference`` or ``both``.
        metric: Metric without this video, or None for all metrics.
        reason: Explanation.
    """

    clip: str
    side: str
    metric: str | None
    reason: str


@dataclass(frozen=True)
class Pair:
    """A generated video and its real counterpart.

    Attributes:
        clip: Path relative to the folder, without extension.
        generated: Generated video.
        reference: Real video.
    """

    clip: str
    generated: Path
    reference: Path


@dataclass(frozen=True)
class Pairing:
    """All pairs of two folders, sorted by name, and the videos without a counterpart."""

    pairs: tuple[Pair, ...]
    missing: tuple[Missing, ...]

    @property
    def expected(self) -> int:
        """Number of clips if no video were missing."""
        return len({pair.clip for pair in self.pairs} | {row.clip for row in self.missing})


def find_videos(folder: Path) -> dict[str, list[Path]]:
    """Finds the videos in a folder and its subfolders; hidden files are ignored.

    Links to folders are followed, except a link to a folder that contains it.

    Returns:
        Path without extension -> videos with this path.

    Raises:
        EvaluationError: If there is no video.
    """
    found: dict[str, list[Path]] = {}
    above = {str(folder): {os.path.realpath(folder)}}  # walked folder -> real paths of it and of the folders above it
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and _enter(root, name, above))
        for name in sorted(files):
            path = Path(root) / name
            if path.suffix.lower() in VIDEO_ENDINGS and not name.startswith("."):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not found:
        raise EvaluationError(f"{folder}: has no video ({', '.join(VIDEO_ENDINGS)}), also not in subfolders")
    return found


def _enter(root: str, name: str, above: dict[str, set[str]]) -> bool:
    """Whether a subfolder is not a link to a folder above it; if so, notes its real path."""
    path = os.path.join(root, name)
    real = os.path.realpath(path)
    above[path] = above[root] | {real}
    return real not in above[root]


def pair_videos(generated: Path, reference: Path) -> Pairing:
    """Pairs the videos of two folders.

    Videos are paired by their path without extension. If one side has no subfolders, they are paired by the file name
    if that is unique. Videos without a counterpart and ambiguous names are reported as missing.

    Raises:
        EvaluationError: If a folder has no video, or there is no pair.
    """
    made, real = find_videos(generated), find_videos(reference)
    missing = [
        Missing(clip, side, None, f"{len(paths)} videos have this name: {', '.join(path.name for path in paths)}")
        for side, videos in (("generated", made), ("reference", real))
        for clip, paths in videos.items()
        if len(paths) > 1
    ]
    unclear = {row.clip for row in missing}
    partners = {clip: clip for clip in made if clip in real}
    partners |= _by_bare_name(made.keys() - partners.keys(), real.keys() - set(partners.values()))
    pairs = [
        Pair(theirs, made[mine][0], real[theirs][0])
        for mine, theirs in partners.items()
        if not {mine, theirs} & unclear
    ]
    missing += [
        Missing(clip, "generated", None, f"no generated video for {videos[0].name}")
        for clip, videos in real.items()
        if clip not in partners.values() and clip not in unclear
    ]
    missing += [
        Missing(clip, "reference", None, f"no reference video for {videos[0].name}")
        for clip, videos in made.items()
        if clip not in partners and clip not in unclear
    ]
    if not pairs:
        raise EvaluationError(
            f"no video of {generated} has a counterpart in {reference}: names without extension must be equal, found "
            f"e.g. {next(iter(made))!r} and {next(iter(real))!r}"
        )
    return Pairing(tuple(sorted(pairs, key=lambda pair: pair.clip)), tuple(sorted(missing, key=lambda row: row.clip)))


def _by_bare_name(made: Iterable[str], real: Iterable[str]) -> dict[str, str]:
    """Pairs paths by file name if one side has no subfolders and the name is unique on both sides."""
    made, real = list(made), list(real)
    if any("/" in name for name in made) and any("/" in name for name in real):
        return {}
    counts = [Counter(name.rpartition("/")[2] for name in side) for side in (made, real)]
    theirs = {name.rpartition("/")[2]: name for name in real}
    return {
        name: theirs[bare]
        for name in made
        if (bare := name.rpartition("/")[2]) in theirs and counts[0][bare] == counts[1][bare] == 1
    }
