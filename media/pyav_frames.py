"""Frames through PyAV: what decord cannot read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from media.frame_scan import Shown, decode, turned
from media.source import MediaError


def read(shown: Shown, picks: np.ndarray) -> Iterator[np.ndarray]:
    """Yields (H, W, 3) uint8 RGB, upright, for each of ``picks``, ascending indices into ``shown.ticks``.

    Raises:
        MediaError: when a picture that was there a moment ago cannot be decoded any more.
    """
    wanted = shown.places[picks]
    given = 0
    for place, (_, frame) in enumerate(decode(shown.path, shown.begin, int(shown.ticks[0]), [])):
        if given == len(wanted):
            return
        if place != wanted[given]:
            continue
        picture = turned(frame.to_ndarray(format="rgb24"), shown.orientation)
        while given < len(wanted) and place == wanted[given]:
            yield picture.copy()
            given += 1
    if given < len(wanted):
        raise MediaError(f"{shown.path}: {given} of {len(wanted)} frames could be read; did the file change meanwhile?")
