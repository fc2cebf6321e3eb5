"""Looks at the files of a case before any of them is read here: they may come from strangers."""

from __future__ import annotations

from collections.abc import Callable

from generation.batch import VideoCase
from media import MediaLimits, look_at, look_at_picture

INPUT_LIMITS = MediaLimits(seconds=3 * 3600.0)


def look_at_inputs(
    case: VideoCase, limits: MediaLimits = INPUT_LIMITS, cancelled: Callable[[], bool] | None = None
) -> None:
    """Looks at the portrait, the speech and the emotion's picture or video in a child process with limits.

    Args:
        case: Video case.
        limits: Limits on the files, and on the memory and time of looking at each.
        cancelled: Called every 50 ms; the look ends when it returns True or raises.

    Raises:
        MediaError: If a file cannot be read, exceeds a limit, or takes more memory or time than its limits.
        LookCancelled: If ``cancelled`` returned True.
    """
    for key, path in case.inputs().items():
        look = look_at_picture if key in ("portrait", "emotion.image") else look_at
        look(path, limits=limits, cancelled=cancelled)
