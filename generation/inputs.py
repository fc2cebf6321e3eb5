"""Looks at the files of a case before any of them is read here: they may come from strangers."""

from __future__ import annotations

from collections.abc import Callable

from generation.batch import VideoCase
from media import MediaInfo, MediaLimits, PictureInfo, look_at, look_at_picture, look_at_recording

_LOOKS: dict[str, Callable[..., MediaInfo | PictureInfo]] = {
    "portrait": look_at_picture,
    "speech": look_at_recording,
    "emotion.image": look_at_picture,
    "emotion.video": look_at,
}
INPUT_LIMITS = MediaLimits(seconds=3 * 3600.0)


def look_at_inputs(case: VideoCase, limits: MediaLimits = INPUT_LIMITS) -> dict[str, MediaInfo | PictureInfo]:
    """Looks at the portrait, the speech and the emotion's picture or video in a child process with limits.

    Args:
        case: Video case.
        limits: Limits on the files, and on the memory and time of looking at each.

    Returns:
        Key of each file -> its properties.

    Raises:
        MediaError: If a file cannot be read, exceeds a limit, or takes more memory or time than its limits.
    """
    found: dict[str, MediaInfo | PictureInfo] = {}
    for key, path in case.inputs().items():
        found[key] = _LOOKS[key](path, limits=limits)
    return found
