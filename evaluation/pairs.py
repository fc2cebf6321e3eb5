"""Which generated video belongs to which real one: the same name without ending, in the same subfolder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from media import VIDEO_ENDINGS
from runtime.errors import UserError


class EvaluationError(UserError):
    """An evaluation that cannot be done; the message says what was found and what to do."""


@dataclass(frozen=True)
class Missing:
    """A video, or one metric of it, that is not in the results.

    Attributes:
        clip: the pair's name.
        side: generated or reference.
        metric: the metric that lacks it, or None where all do.
        reason: what is wrong, for a person.
    """

    clip: str
    side: str
    metric: str | None
    reason: str


@dataclass(frozen=True)
class Pair:
    """Two videos of the same thing.

    Attributes:
        clip: their path below the folders, without ending.
        generated: the generated video.
        reference: the real one.
    """

    clip: str
    generated: Path
    reference: Path


@dataclass(frozen=True)
class Pairing:
    """All pairs of two folders, sorted by name, and the videos without a partner."""

    pairs: tuple[Pair, ...]
    missing: tuple[Missing, ...]

    @property
    def expected(self) -> int:
        """How many clips there would be if nothing was missing."""
        return len({pair.clip for pair in self.pairs} | {row.clip for row in self.missing})


def find_videos(folder: Path) -> dict[str, list[Path]]:
    """The videos of a folder and its subfolders by their path without ending; hidden files are passed over.

    Raises:
        EvaluationError: if there is none.
    """
    found: dict[str, list[Path]] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root) / name
            if path.suffix.lower() in VIDEO_ENDINGS and not name.startswith("."):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not found:
        raise EvaluationError(f"{folder}: holds no video ({', '.join(VIDEO_ENDINGS)}), in no subfolder either")
    return found


def pair_videos(generated: Path, reference: Path) -> Pairing:
    """Pairs two folders.

    Names are compared with their subfolders; where one side has no subfolders, by the bare name if that is unique.
    A video without a partner, and a name that two videos share, is reported and never guessed.

    Raises:
        EvaluationError: if a folder holds no video, or nothing pairs.
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
            f"no video of {generated} has a partner in {reference}: videos pair by name without ending, found e.g. "
            f"{next(iter(made))!r} and {next(iter(real))!r}"
        )
    return Pairing(tuple(sorted(pairs, key=lambda pair: pair.clip)), tuple(sorted(missing, key=lambda row: row.clip)))


def _by_bare_name(made: Iterable[str], real: Iterable[str]) -> dict[str, str]:
    """Pairs names by their last part, where one side lies flat and the part is unique on both."""
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
