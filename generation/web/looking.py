"""Looks at a visitor's files in a child process, with the limits of the page, before the server reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from configs.app import AppConfig
from generation.errors import GenerationError
from media import MediaLimits, NoSound, look_at, look_at_picture

MAX_PICTURE, MAX_VIDEO = 40_000_000, 9_000_000  # pixels of a picture, and of a video frame (4K has 8.3 million)
MAX_LANDMARKS = 20_000_000  # bytes of a landmark file; OpenFace writes 10 kB a frame
AT_ONCE = threading.BoundedSemaphore(2)  # looks at the same time: each may take 512 MiB
POLL = 0.1  # seconds between two checks for Stop while waiting for a look


def require_usable(
    files: Mapping[str, Path], config: AppConfig, check: Callable[[], object], *, paste_back: bool
) -> None:
    """Checks the content of the files of a request: kinds, sizes and lengths.

    Args:
        files: portrait, speech, image or video -> file.
        config: Limits of the page.
        check: Called while waiting; an exception that it raises ends the look.
        paste_back: Whether the video has the size of the portrait.

    Raises:
        GenerationError: If a file is too long, or has no sound where it is needed.
        MediaError: If a file is not of its kind, or looking at it exceeds a limit.
    """

    def cancelled() -> bool:
        check()
        return False

    while not AT_ONCE.acquire(timeout=POLL):
        check()
    try:
        for name, file in files.items():
            if name in ("speech", "video"):
                _require_short(name, file, config.max_seconds, cancelled)
                continue
            most = MAX_VIDEO if paste_back and name == "portrait" else MAX_PICTURE
            look_at_picture(file, limits=MediaLimits(pixels=most), cancelled=cancelled)
            _require_landmarks(file.with_suffix(".csv"))
        if "video" in files:
            _require_landmarks(files["video"].with_suffix(".csv"))
    finally:
        AT_ONCE.release()


def _require_short(name: str, file: Path, seconds: float, cancelled: Callable[[], bool]) -> None:
    limits = MediaLimits(pixels=MAX_VIDEO, streams=16, channels=8, sound_rate=192_000)
    try:
        found = look_at(file, limits=limits, cancelled=cancelled)
    except NoSound:
        raise GenerationError(f"{file.name}: has no sound track that can be read; upload a sound file.") from None
    if name == "speech" and not found.has_sound:
        raise GenerationError(f"{file.name}: has no sound track that can be read; upload a sound file.")
    length = found.duration if name == "video" else found.sound_duration
    if length > seconds:
        raise GenerationError(
            f"{file.name}: lasts {length:.0f} s, at most {seconds:g} s are taken here; cut out a part, or use "
            "generate.py, which has no limit."
        )


def _require_landmarks(file: Path) -> None:
    """Landmark files are text that this program parses itself; only their size is limited."""
    if file.exists() and (size := file.stat().st_size) > MAX_LANDMARKS:
        raise GenerationError(
            f"{file.name}: has {size / 1e6:.0f} MB, a landmark file may have {MAX_LANDMARKS / 1e6:.0f} MB."
        )
