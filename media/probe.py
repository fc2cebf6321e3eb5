"""Sizes, rates and lengths of a media file, read from its packets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from media.display import shown_size, upright
from media.limits import LIMITS, MediaLimits
from media.source import (
    MediaError,
    NoSound,
    audio_stream,
    decoder_options,
    identify,
    opened,
    opened_bytes,
    seconds,
    video_stream,
)
from media.timeline import read_timeline

# Containers whose headers give the length of the tracks to a tenth of a second.
_TRUSTED = ("mov", "matroska")


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a media file.

    Times are seconds on the clip's clock, which starts with the first picture or sound, whichever is earlier. A missing
    track has size, rate and duration 0 and no codec.

    Attributes:
        width: Width upright, square pixels.
        height: Height upright, square pixels.
        fps: Average frame rate by the header, or by the timestamps where the header has none.
        duration: End of the last picture.
        first_frame: Time of the first picture.
        pixel_aspect: Width of a stored pixel over its height; pictures are read with square ones.
        rotated: Whether pictures are stored turned or mirrored; they are read upright.
        video_codec: FFmpeg's name of the video codec.
        has_sound: Whether there is a sound track.
        sound_duration: End of the last sample.
        first_sound: Time of the first sample.
        sound_rate: Samples per second.
        channels: Number of sound channels.
        audio_codec: FFmpeg's name of the audio codec.
    """

    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration: float = 0.0
    first_frame: float = 0.0
    pixel_aspect: float = 1.0
    rotated: bool = False
    video_codec: str = ""
    has_sound: bool = False
    sound_duration: float = 0.0
    first_sound: float = 0.0
    sound_rate: int = 0
    channels: int = 0
    audio_codec: str = ""


def probe(path: str | Path, limits: MediaLimits = LIMITS) -> MediaInfo:
    """Reads the properties of a video or sound file; decodes one picture and a few packets of sound.

    Args:
        path: Video or sound file.
        limits: Limits on its tracks, pictures, sound and timestamps.

    Raises:
        MediaError: when the file is missing, empty, unreadable, neither video nor sound, cut short, or exceeds a limit.
    """
    timeline = read_timeline(path, limits)
    found: dict[str, int | float | bool | str] = {}
    with opened(timeline.path, limits) as container:
        if timeline.pictures:
            stream = video_stream(container, timeline.path)
            stream.codec_context.options = decoder_options(limits)
            stream.codec_context.thread_count = 1  # for one picture, and each thread reserves memory
            try:
                frame = next(container.decode(stream), None)
            except av.FFmpegError as error:
                raise MediaError(
                    f"{timeline.path}: its first picture cannot be decoded ({error.strerror or error})"
                ) from error
            if frame is None:
                raise MediaError(f"{timeline.path}: none of its pictures can be decoded; fetch or copy it again")
            pictures, matrix = timeline.pictures, upright(frame)
            width, height = shown_size(frame.width, frame.height, pictures.aspect)
            if matrix[0, 0] == 0:
                width, height = height, width
            gaps = max(1, len(pictures.times) - 1)  # a single picture lasts until the end
            span = (pictures.times[-1] if len(pictures.times) > 1 else pictures.end) - pictures.start
            found |= {
                "width": width,
                "height": height,
                "fps": float(stream.average_rate or gaps / (max(1, int(span)) * pictures.time_base)),
                "duration": float(pictures.end * pictures.time_base - timeline.zero),
                "first_frame": float(pictures.start * pictures.time_base - timeline.zero),
                "pixel_aspect": float(pictures.aspect),
                "rotated": not bool((matrix == [[1, 0], [0, 1]]).all()),
                "video_codec": stream.codec_context.name,
            }
        if timeline.sounds:
            sound = audio_stream(container, timeline.path)
            found |= {
                "has_sound": True,
                "sound_duration": float(timeline.sounds.end - timeline.zero),
                "first_sound": float(timeline.sounds.start - timeline.zero),
                "sound_rate": sound.rate,
                "channels": sound.channels,
                "audio_codec": sound.codec_context.name,
            }
    return MediaInfo(**found)  # type: ignore[arg-type]


def probe_member(data: bytes, name: str, limits: MediaLimits = LIMITS) -> None:
    """Reads all packets and decodes the first frame of every track of a shard's member, a FLAC or MP4 file in memory.

    Args:
        data: Content.
        name: Name of the member; its ending is that of the format.
        limits: Limits on its tracks, pictures and sound.

    Raises:
        MediaError: when it is damaged or exceeds a limit.
    """
    kind = name.rpartition(".")[2]
    try:
        with opened_bytes(data, name, kind, limits) as container:
            streams = [*container.streams.video, *container.streams.audio]
            streams = [stream for stream in streams if stream.codec_context]
            if not streams:
                raise MediaError(f"{name}: has no track that can be decoded")
            for stream in streams:
                stream.codec_context.options = decoder_options(limits)
                stream.codec_context.thread_count = 1  # each thread reserves memory
            seen = set()
            for count, packet in enumerate(container.demux(streams)):
                if count > limits.packets:
                    raise MediaError(f"{name}: has more than {limits.packets} packets")
                if packet.stream_index not in seen and any(packet.decode()):
                    seen.add(packet.stream_index)
    except av.FFmpegError as error:
        raise MediaError(f"{name}: damaged ({error.strerror or error})") from error


def sound_duration(path: str | Path) -> float:
    """End of the last sample of a file's sound, seconds on the clip's clock.

    Raises:
        NoSound: when there is no sound track.
        MediaError: when the file cannot be read.
    """
    timeline = read_timeline(path)
    if timeline.sounds is None:
        raise NoSound(f"{timeline.path}: has no sound track")
    return float(timeline.sounds.end - timeline.zero)


def header_duration(path: str | Path, limits: MediaLimits = LIMITS) -> float | None:
    """End of the last picture by the header alone, to about 0.1 s; no packet is read.

    Args:
        path: Video file.
        limits: Limits on its tracks and pictures.

    Returns:
        Seconds on the clip's clock. None where only ``probe`` can tell: the header gives no length or none that can be
        trusted, the file is shorter than its index, or cannot be opened.
    """
    try:
        path, size, _ = identify(path)
        with opened(path, limits) as container:
            stream = video_stream(container, path)
            tracks = [stream, audio_stream(container, path)] if container.streams.audio else [stream]
            starts = [seconds(track.start_time or 0, track.time_base) for track in tracks]
            if not any(name in container.format.name for name in _TRUSTED):
                return None
            if "matroska" in container.format.name:
                end = Fraction(container.duration or 0, av.time_base)
            else:
                entries = stream.index_entries
                whole = stream.frames and stream.duration and stream.frames == len(entries)
                if not whole or entries[-1].pos + entries[-1].size > size:
                    return None
                end = starts[0] + seconds(stream.duration or 0, stream.time_base)
    except MediaError:
        return None
    return float(end - min(starts)) if end > min(starts) else None
