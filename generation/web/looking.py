"""The limits of the page on the content of uploads: pixels, seconds, and the size of landmark files."""

from __future__ import annotations

import threading

from configs.app import AppConfig
from generation.batch import VideoCase
from generation.errors import GenerationError
from generation.inputs import look_at_inputs
from media import MediaInfo, MediaLimits, PictureInfo
from runtime.stopping import checkpoint

LIMITS = MediaLimits(streams=16, channels=8, sound_rate=192_000, packets=1_000_000)
MAX_VIDEO = 9_000_000  # pixels of a video frame, read or written; 4K has 8.3 million
MAX_LANDMARKS = 20_000_000  # bytes of a landmark file; OpenFace writes 10 kB a frame
AT_ONCE = threading.BoundedSemaphore(2)  # looks at the same time: each may take 512 MiB
POLL = 0.1  # seconds between two checks for Stop while waiting for a look


def require_usable(case: VideoCase, config: AppConfig) -> None:
    """Looks at the files of a case in a child process and checks what the page takes.

    Raises:
        GenerationError: If a file is too long or too large, or has no sound or pictures where they are needed.
        MediaError: If a file is not of its kind, or looking at it exceeds a limit.
    """
    while not AT_ONCE.acquire(timeout=POLL):
        checkpoint()
    try:
        for key, found in look_at_inputs(case, LIMITS).items():
            name = case.inputs()[key].name
            if isinstance(found, PictureInfo):
                if case.paste_back and key == "portrait":
                    _require_pixels(name, found, "a picture that the face is pasted into")
            elif key == "speech":
                _require_speech(name, found, config.max_seconds)
            else:
                _require_seconds(name, found.duration, config.max_seconds)
                _require_pixels(name, found, "a video frame")
        for path in case.inputs().values():
            if (file := path.with_suffix(".csv")).exists() and (size := file.stat().st_size) > MAX_LANDMARKS:
                most = f"{MAX_LANDMARKS / 1e6:.0f} MB"
                raise GenerationError(f"{file.name}: has {size / 1e6:.0f} MB, a landmark file may have {most}.")
    finally:
        AT_ONCE.release()


def _require_speech(name: str, found: MediaInfo, seconds: float) -> None:
    if not found.has_sound:
        raise GenerationError(f"{name}: has no sound track that can be read; upload a sound file.")
    _require_seconds(name, found.sound_duration, seconds)


def _require_seconds(name: str, length: float, seconds: float) -> None:
    if length > seconds:
        raise GenerationError(
            f"{name}: lasts {length:.0f} s, at most {seconds:g} s are taken here; cut out a part, or use generate.py, "
            "which has no limit."
        )


def _require_pixels(name: str, found: MediaInfo | PictureInfo, what: str) -> None:
    if found.width * found.height > MAX_VIDEO:
        raise GenerationError(
            f"{name}: has {found.width}x{found.height} pixels; {what} may have {MAX_VIDEO / 1e6:.0f} megapixels."
        )
