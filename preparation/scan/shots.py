"""Finds the shots of a clip from its thumbnails: hard cuts, jump cuts, dissolves and fades.

A hard cut is a step between two pictures that stands out from the steps around it and is not undone. Camera shake and
fast motion make large steps, but many in a row; a flash is undone. A jump cut of one person in equal framing makes a
small step, but everywhere: it stands out in most tiles of the picture, while motion stands out in a few. So does the
first picture of an encoder's group, where quality changes; a keyframe is therefore no jump cut. The thresholds lie
between what was measured on made cuts and on uncut talking people (docs/data.md, "Scan and choose").

Shapes: F frames at 25 fps, thumbnails of 32 x 32 grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AROUND = 4  # steps on either side that a cut is compared with
LOOKAHEAD = 6  # frames after a cut that decide about it
STEP = 2.5  # grey levels; smallest step of a cut
AT_KEYFRAME = 10.0  # the same where a regular keyframe comes, whose quality differs
OUTSTANDING = 3.0  # smallest ratio of a cut to the largest step around it
TILES = 8  # tiles on a side of a thumbnail
JUMP = 1.6  # smallest geometric mean, over the tiles, of the ratio of a jump cut to the largest step around it
JUMP_MOVING = 2.1  # the same over the tiles that move, where it is a plain background that stands still
FAINT = 0.1  # ratios below count as this
LEAST_TILES = 8  # that move
AT_EDGE = 3  # frames at the ends of a clip without jump cuts, for want of steps around them
LARGE = 18.0  # grey levels; a step that large is also a cut among other cuts,
AMONG = 3.5  # if it is this many times the median step around it
QUIET = 0.3  # grey levels; steps below count as this, so that the noise of a still picture makes no cut
UNDONE = 0.5  # share of the step that must remain between the medians before and after: a flash is undone
SETTLED = 5  # frames of these medians
HALVES = (3, 5, 8, 12)  # half lengths of dissolves, frames
DISSOLVED = 14.0  # grey levels; smallest difference of the two ends of a dissolve
MIXED = 0.2  # largest distance of its middle from their average, relative to their difference
STEADY = 0.5  # largest change just before and after a dissolve, relative to the same
RELIT = 0.82  # correlation of the two ends of a dissolve at most; above, only the light has changed
BLACK = 12.0  # grey levels; mean of a black picture at most
PLAIN = 4.0  # grey levels; its standard deviation at most


class CutFinder:
    """Finds hard cuts while thumbnails arrive; a cut is known ``LOOKAHEAD`` frames later.

    Attributes:
        thumbnails: Thumbnails so far.
        steps: Mean absolute difference of each thumbnail to the one before, grey levels; 0 for the first.
        tiles: (64,) the same of each tile.
        keys: Whether a keyframe comes with each frame.
    """

    def __init__(self) -> None:
        self.thumbnails: list[np.ndarray] = []
        self.steps: list[float] = []
        self.tiles: list[np.ndarray] = []
        self.keys: list[bool] = []

    def add(self, thumb: np.ndarray, key: bool = False) -> None:
        """Adds the next (32, 32) thumbnail, and whether a keyframe came with it."""
        side = len(thumb) // TILES
        before = self.thumbnails[-1] if self.thumbnails else thumb
        self.tiles.append(np.abs(thumb - before).reshape(TILES, side, TILES, side).mean((1, 3)).ravel())
        self.thumbnails.append(thumb)
        self.steps.append(float(self.tiles[-1].mean()))
        self.keys.append(key)

    def score(self, index: int) -> float:
        """Ratio of the step at a frame to the largest step around it if the frame starts a shot, else 0."""
        return self._hard(index) or self._jump(index)

    def _jump(self, index: int) -> float:
        if not AT_EDGE <= index <= len(self.steps) - AT_EDGE or self.keys[index]:
            return 0.0
        places = [*range(max(1, index - AROUND), index), *range(index + 1, min(len(self.tiles), index + AROUND + 1))]
        around = [self.tiles[place] for place in places if self.steps[place] > 0.0]
        if len(around) < AT_EDGE:
            return 0.0
        largest = np.max(around, axis=0)
        ratios = np.log(np.maximum(self.tiles[index] / np.maximum(largest, QUIET), FAINT))
        moving = np.maximum(self.tiles[index], largest) >= QUIET
        ratio = float(np.exp(ratios.mean()))
        of_moving = float(np.exp(ratios[moving].mean())) if moving.sum() >= LEAST_TILES else 0.0
        stands_out = ratio >= JUMP or of_moving >= JUMP_MOVING
        return max(ratio, of_moving) if stands_out and self._stays(index) else 0.0

    def _stays(self, index: int) -> bool:
        """Whether the step at a frame is not undone by the frames after it."""
        before = np.median(self.thumbnails[max(0, index - SETTLED) : index], axis=0)
        after = np.median(self.thumbnails[index : index + SETTLED], axis=0)
        return float(np.abs(after - before).mean()) >= UNDONE * self.steps[index]

    def _hard(self, index: int) -> float:
        step = self.steps[index]
        if index == 0 or step < (AT_KEYFRAME if self.keys[index] else STEP):
            return 0.0
        around = [*self.steps[max(1, index - AROUND) : index], *self.steps[index + 1 : index + AROUND + 1]]
        # A picture that a source of a low rate shows twice makes no step; the motion is in the next one.
        around = [value for value in around if value > 0.0] or [0.0]
        ratio = step / max(*around, QUIET) if len(around) > 1 else step / max(around[0], QUIET)
        among = step >= LARGE and step >= AMONG * max(float(np.median(around)), QUIET)
        if ratio < OUTSTANDING and not among:
            return 0.0
        return ratio if self._stays(index) else 0.0


def find_shots(thumbnails: np.ndarray, keys: Sequence[bool] = ()) -> list[tuple[int, int, float]]:
    """Cuts a clip into shots.

    What lies between two shots, the frames of a dissolve or a black picture, is a shot of its own.

    Args:
        thumbnails: (F, 32, 32).
        keys: Whether a keyframe comes with each frame; empty if it is not known.

    Returns:
        First frame, frame after the last, and the score of the cut at the beginning (0 for the clip's own), in order.
    """
    finder = CutFinder()
    for place, thumb in enumerate(thumbnails):
        finder.add(thumb, place < len(keys) and bool(keys[place]))
    cuts = {index: score for index in range(len(thumbnails)) if (score := finder.score(index))}
    for first, last, score in _dissolves(thumbnails, np.array(finder.steps), cuts):
        cuts |= {first: score, last: score}
    cuts |= _black_edges(thumbnails, cuts)
    marks = [0, *sorted(cuts), len(thumbnails)]
    return [(start, end, round(cuts.get(start, 0.0), 2)) for start, end in zip(marks[:-1], marks[1:], strict=True)]


def _dissolves(thumbnails: np.ndarray, steps: np.ndarray, cuts: dict[int, float]) -> list[tuple[int, int, float]]:
    """First frame, frame after the last, and difference of the ends of each dissolve; shorter ones win."""
    found: list[tuple[int, int, float]] = []
    for half in HALVES:
        middles = np.arange(half, len(thumbnails) - half)
        if not len(middles):
            continue
        early, late = thumbnails[middles - half], thumbnails[middles + half]
        apart = np.abs(late - early).mean((1, 2))
        mixed = np.abs(thumbnails[middles] - (early + late) / 2).mean((1, 2))
        for place in np.flatnonzero((apart > DISSOLVED) & (mixed < MIXED * apart)):
            middle = int(middles[place])
            first, last = middle - half, middle + half
            if apart[place] < apart[max(0, place - half) : place + half + 1].max():
                continue
            taken = any(first <= end and start <= last for start, end, _ in found)
            if taken or any(first - half <= cut <= last + half for cut in cuts):
                continue
            lead, tail = max(0, first - half), min(len(thumbnails) - 1, last + half)
            drift = max(
                float(np.abs(thumbnails[first] - thumbnails[lead]).mean()),
                float(np.abs(thumbnails[tail] - thumbnails[last]).mean()),
            )
            even = steps[first + 1 : last + 1].max() < 4 * apart[place] / (2 * half)
            relit = _correlation(thumbnails[first], thumbnails[last]) > RELIT
            if drift < STEADY * apart[place] and even and not relit:
                found.append((first, last, float(apart[place])))
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures in [-1, 1]; 0 if one of them is plain."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _black_edges(thumbnails: np.ndarray, cuts: dict[int, float]) -> dict[int, float]:
    """Begin and end of every run of black pictures within the clip."""
    black = (thumbnails.mean((1, 2)) < BLACK) & (thumbnails.std((1, 2)) < PLAIN)
    edges = np.flatnonzero(np.diff(black.astype(np.int8))) + 1
    return {int(edge): LARGE for edge in edges if int(edge) not in cuts}
