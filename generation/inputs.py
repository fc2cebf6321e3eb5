"""Looks at the files of a case before any of them is read here: they may come from strangers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from generation.batch import VideoCase
from media import MediaError, MediaInfo, MediaLimits, NotMedia, PictureInfo, look_at, look_at_picture, look_at_recording


def _look_at_portrait(path: Path, *, limits: MediaLimits) -> MediaInfo | PictureInfo:
    """Looks at a picture, or at a video of which a frame is used."""
    try:
        return look_at_picture(path, limits=limits)
    except NotMedia as error:
        no_picture = error
    try:
        found = look_at(path, limits=limits)
    except NotMedia:
        raise no_picture from None
    if not found.width:
        raise MediaError(f"{path}: is sound; expected a picture, or a video of which a frame is used")
    return found


_LOOKS: dict[str, Callable[..., MediaInfo | PictureInfo]] = {
    "portrait": _look_at_portrait,
    "speech": look_at_recording,
    "emotion.image": look_at_picture,
    "emotion.video": look_at,
}
INPUT_LIMITS = MediaLimits(seconds=3 * 3600.0)


def look_at_inputs(case: VideoCase, limits: MediaLimits = INPUT_LIMITS) -> dict[str, MediaInfo | PictureInfo]:
    """Looks at the portrait, the speech and the emotion's picture or video in a child process with limits.

    A file is looked at once in a process, until its size or time changes: before the networks are loaded, and not again
    when its case is generated.

    Args:
        case: Video case.
        limits: Limits on the files, and on the memory and time of looking at each.

    Returns:
        Key of each file -> its properties.

    Raises:
        MediaError: If a file cannot be read, exceeds a limit, or takes more memory or time than its limits.
    """
    return {key: _look(key, path, limits) for key, path in case.inputs().items()}


def _look(key: str, path: Path, limits: MediaLimits) -> MediaInfo | PictureInfo:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _LOOKS[key](path, limits=limits)  # its error names what is wrong
    return _look_once(key, path.absolute(), limits, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1 << 16)
def _look_once(key: str, path: Path, limits: MediaLimits, version: tuple[int, ...]) -> MediaInfo | PictureInfo:
    return _LOOKS[key](path, limits=limits)
