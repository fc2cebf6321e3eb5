"""Opening media files, with one error type for everything that can be wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from runtime.errors import UserError

# Endings that make a file of a folder a video; its format is then decided by its content.
VIDEO_ENDINGS = (
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".3gp"),
    *(".ogv", ".mxf", ".vob"),
)


class MediaError(UserError):
    """A file that cannot be read or written; the message names the file, the problem and what to do."""


class NoSound(MediaError):
    """A file without a sound track."""


def identify(path: str | Path) -> tuple[Path, int, int]:
    """The absolute path, the size in bytes and the modification time of a file that can be opened.

    Raises:
        MediaError: when it is missing, not a file, empty, or may not be read.
    """
    # Absolute, so that FFmpeg never takes a name such as "concat:a.mp4" for a protocol.
    path = Path(os.path.abspath(path))
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: is a folder, expected a video or sound file") from None
    except PermissionError as error:
        raise MediaError(
            f"{path}: may not be read (permission denied); change its rights with chmod or chown"
        ) from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
    if status.st_size == 0:
        raise MediaError(f"{path}: is empty (0 bytes), expected a video or sound file; fetch or copy it again")
    return path, status.st_size, status.st_mtime_ns


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opens a container with PyAV, for reading.

    Raises:
        MediaError: when it is no container FFmpeg knows, or its header is cut off.
    """
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise MediaError(
            f"{path}: not a readable video or sound file ({error.strerror or error}; found {_opening(path)}); "
            "it is damaged, cut short, or something else under this name: fetch or copy it again"
        ) from error
    except UnicodeEncodeError as error:
        raise MediaError(f"{str(path)!r}: the name is not valid UTF-8, which FFmpeg needs; rename the file") from error
    with container:
        yield container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The picture track; still pictures and cover art are none.

    Raises:
        MediaError: when there is no picture track.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    still = container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty")
    if not streams or still:
        raise MediaError(f"{path}: has no video track (format {container.format.name}); expected a video")
    best = container.streams.best("video")
    return best if best in streams else streams[0]


def audio_stream(container: InputContainer, path: Path) -> AudioStream:
    """The sound track FFmpeg takes for the main one.

    Raises:
        NoSound: when there is none.
    """
    best = container.streams.best("audio")
    if best is None:
        raise NoSound(f"{path}: has no sound track (format {container.format.name})")
    assert isinstance(best, AudioStream)
    return best


def seconds(ticks: int, time_base: Fraction | None) -> Fraction:
    """A timestamp in seconds; every stream and frame FFmpeg opens has a time base."""
    assert time_base is not None
    return ticks * time_base


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _opening(path: Path) -> str:
    """Size and first bytes of a file, by which a person recognises text, an HTML error page or zeros."""
    with path.open("rb") as file:
        first = file.read(12)
    return f"{path.stat().st_size} bytes starting with {first!r}"
