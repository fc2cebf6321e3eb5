"""The one place where media files, also those in archives, are opened, with one error type for all that can be wrong.

FFmpeg chooses a demuxer by content, and some demuxers open further files or addresses that the content names: playlists
(HLS, DASH), lists of files (concat), session descriptions (SDP), numbered pictures. Every file and every member of a
shard is therefore opened here, with demuxers from a list that follow nothing, and with no protocol but the file's own.
FFmpeg compares both lists before it reads more than the bytes by which it recognises a format.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from media.archives import member_of, open_file
from media.limits import LIMITS, MediaLimits
from media.parts import Part, PartFile, ReadableFile
from runtime.errors import UserError

# Endings that make a file of a folder a video; its format is then decided by its content.
VIDEO_ENDINGS = (
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".3gp"),
    *(".ogv", ".mxf", ".vob"),
)


# Demuxers that read one file and follow no reference. FFmpeg's names; the first name of several is enough.
CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf", "nut", "dv", "gif"),
    *("wav", "w64", "aiff", "caf", "au", "flac", "mp3", "aac", "ac3", "eac3", "dts", "amr", "ape", "wv", "tta", "voc"),
)
# Options of the ffmpeg program before -i of a foreign file: the same lists.
FFMPEG_INPUT = ("-protocol_whitelist", "file", "-format_whitelist", ",".join(CONTAINERS))
# First bytes -> description of files that are taken for media; for the message alone, CONTAINERS decides.
REFUSED = {
    b"#EXTM3U": "a playlist, which names other files",
    b"ffconcat": "a list of other files",
    b"v=0": "the description of a stream (SDP)",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"BM": "a picture (BMP)",
}
_BLOCK_SAMPLES = 1 << 22  # samples of one frame of sound; the longest real ones have 1.2 million (Monkey's Audio)


class MediaError(UserError):
    """A file that cannot be read or written; the message names the file, the problem and what to do."""


class NoSound(MediaError):
    """A file without a sound track."""


class NotMedia(MediaError):
    """A file that is none of the formats that are read."""


class CancelledSound(MediaError):
    """Sound whose channels cancel each other, so that their mean is silent."""


def identify(path: str | Path, expected: str = "a video or sound file") -> tuple[Path, int, int]:
    """The absolute path, the size in bytes and the modification time of a file that can be opened.

    Args:
        path: Path of the file.
        expected: What the file should be, for messages.

    Raises:
        MediaError: when it is missing, not a regular file, empty, or may not be read.
    """
    # Absolute, so that FFmpeg never takes a name such as "concat:a.mp4" for a protocol.
    path = Path(os.path.abspath(path))
    try:
        mode, size, changed = _status(path)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise MediaError(f"{path}: is a folder, expected {expected}") from None
    except PermissionError as error:
        raise MediaError(
            f"{path}: may not be read (permission denied); change its rights with chmod or chown"
        ) from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check the path and the disk") from error
    except ValueError as error:  # a NUL, or a character that the file system cannot store
        raise MediaError(f"{str(path)!r}: is not a possible file name ({error}); check the path") from error
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path}: is a pipe, socket or device, expected {expected}; save its content to a file first")
    if size == 0:
        raise MediaError(f"{path}: is empty (0 bytes), expected {expected}; fetch or copy it again")
    return path, size, changed


def _status(path: Path) -> tuple[int, int, int]:
    """Kind, size and time of a file that can be read. Opening a pipe would wait for a writer: others are not opened."""
    member = member_of(path)
    status = (path if member is None else member.archive).stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError
    if stat.S_ISREG(status.st_mode):
        file = path if member is None else member.archive
        os.close(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)))
    return status.st_mode, status.st_size if member is None else member.size, status.st_mtime_ns


@contextmanager
def opened(path: Path, limits: MediaLimits = LIMITS) -> Iterator[InputContainer]:
    """Opens a container with PyAV, for reading.

    Args:
        path: Absolute path, from ``identify``.
        limits: Limits on tracks, pictures and sound.

    Raises:
        MediaError: when it is no container on the list, its header is cut off, or it exceeds a limit.
    """
    with _file_of(path) as file:
        lists = {
            "format_whitelist": ",".join(CONTAINERS),
            "protocol_whitelist": "file" if isinstance(file, str) else "none",
        }
        try:
            container = _open(file, limits, lists)
        except av.FFmpegError as error:
            raise NotMedia(f"{path}: {_refusal(path, error)}") from error
        with container:
            _check(container, str(path), limits)
            yield container


@contextmanager
def _file_of(path: Path) -> Iterator[str | ReadableFile]:
    """The path of a file for FFmpeg to open, or the opened member of an archive."""
    try:
        file = None if member_of(path) is None else open_file(path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    if file is None:
        yield str(path)
        return
    with file:
        yield file


@contextmanager
def opened_bytes(data: bytes, name: str, kind: str, limits: MediaLimits = LIMITS) -> Iterator[InputContainer]:
    """Opens a container in memory with PyAV, for reading.

    Args:
        data: Content.
        name: Name for messages.
        kind: FFmpeg's name of the only demuxer that is tried, ``flac`` or ``mp4``; the content does not choose it.
        limits: Limits on tracks, pictures and sound.

    Raises:
        MediaError: when it is not such a container, or exceeds a limit.
    """
    try:
        container = _open(io.BytesIO(data), limits, {"protocol_whitelist": "none"}, kind)
    except av.FFmpegError as error:
        raise MediaError(f"{name}: damaged ({_reason(error)})") from error
    with container:
        _check(container, name, limits)
        yield container


@contextmanager
def opened_part(path: Path, part: Part, kind: str, limits: MediaLimits = LIMITS) -> Iterator[InputContainer]:
    """Opens a part of a joined file with PyAV, for reading.

    Args:
        path: Absolute path of the whole file, from ``identify``.
        part: Part, from ``parts_of``.
        kind: FFmpeg's name of the only demuxer that is tried, that of the whole file.
        limits: Limits on tracks, pictures and sound.

    Raises:
        MediaError: when it cannot be opened, or exceeds a limit.
    """
    with PartFile(open_file(path), part, str(path)) as file:
        try:
            container = _open(file, limits, {"protocol_whitelist": "none"}, kind.partition(",")[0])
        except av.FFmpegError as error:
            raise MediaError(f"{path}: its part at byte {part.start} is damaged ({_reason(error)})") from error
        with container:
            _check(container, str(path), limits)
            yield container


def decoder_options(limits: MediaLimits = LIMITS, **options: str) -> dict[str, str]:
    """Options of a decoder: the given ones, and limits for what a stream changes after its header."""
    return {"max_pixels": str(limits.pixels), "max_samples": str(_BLOCK_SAMPLES), **options}


def up_to(frames: Iterable[av.AudioFrame], samples: int, name: str) -> Iterator[av.AudioFrame]:
    """Passes frames of sound on until they have more than ``samples`` samples.

    Raises:
        MediaError: then; compressed silence takes hardly a byte, so the size of a file bounds nothing.
    """
    for frame in frames:
        samples -= frame.samples
        if samples < 0:
            raise MediaError(f"{name}: lasts longer than it may; cut out a part of it")
        yield frame


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The picture track; still pictures and cover art are none.

    Raises:
        MediaError: when there is no picture track.
    """
    streams = [stream for stream in container.streams.video if stream.codec_context and not _is_cover(stream)]
    if not streams:
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
    if best.codec_context is None:
        raise MediaError(f"{path}: its sound has an unknown codec; re-encode it")
    return best


def seconds(ticks: int, time_base: Fraction | None) -> Fraction:
    """A timestamp in seconds; every stream and frame FFmpeg opens has a time base."""
    assert time_base is not None
    return ticks * time_base


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _open(
    file: str | io.BytesIO | ReadableFile, limits: MediaLimits, lists: dict[str, str], kind: str | None = None
) -> InputContainer:
    """The only call of FFmpeg for reading. Texts in a file need not be UTF-8."""
    return av.open(
        file, "r", format=kind, options=decoder_options(limits), container_options=lists, metadata_errors="replace"
    )


def _check(container: InputContainer, name: str, limits: MediaLimits) -> None:
    """Compares a container's header with the limits."""
    if len(container.streams) > limits.streams:
        raise MediaError(
            f"{name}: has {len(container.streams)} tracks, expected at most {limits.streams}; re-encode it"
        )
    for stream in container.streams:
        codec = stream.codec_context  # None without a decoder
        if isinstance(codec, VideoCodecContext) and codec.width * codec.height > limits.pixels:
            raise MediaError(
                f"{name}: its pictures have {codec.width}x{codec.height} pixels, expected at most "
                f"{limits.pixels / 1e6:.0f} megapixels; make them smaller"
            )
        if isinstance(codec, AudioCodecContext) and (
            codec.sample_rate > limits.sound_rate or codec.channels > limits.channels
        ):
            raise MediaError(
                f"{name}: its sound has {codec.sample_rate} samples per second and {codec.channels} channels, expected "
                f"at most {limits.sound_rate} and {limits.channels}; re-encode it"
            )


def _reason(error: av.FFmpegError) -> str:
    """FFmpeg's words for an error."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return "not one of the formats that are read" if error.errno == errno.EINVAL else str(error.strerror or error)


def _refusal(path: Path, error: av.FFmpegError) -> str:
    """What a file that FFmpeg refused seems to be, and what to do."""
    with open_file(path) as file:
        first = file.read(12)
    for mark, kind in REFUSED.items():
        if first.startswith(mark):
            return f"has no video track and no sound of its own: it is {kind}; give the video or sound file itself"
    return (
        f"not a readable video or sound file ({_reason(error)}; found {identify(path)[1]} bytes starting with "
        f"{first!r}); it is damaged, cut short, or something else under this name: fetch or copy it again"
    )
