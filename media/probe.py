"""What a media file holds, read from its packets: sizes, rates, lengths on the clip's clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from media.pyav_frames import upright
from media.source import MediaError, NoSound, audio_stream, opened, video_stream
from media.timeline import read_timeline


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds.

    All times are seconds on the clip's clock, which starts with the first picture or the first sound, whichever is
    earlier. A track that is not there has size, rate and duration 0 and no codec.

    Attributes:
        width: pixels, upright.
        height: pixels, upright.
        fps: average frame rate of the source by its header, or by its timestamps where the header has none.
        duration: when the last picture ends.
        first_frame: when the first picture is shown.
        pixel_aspect: width of a pixel over its height; frames are not rescaled when it is not 1.
        rotated: True when pictures are stored turned or mirrored; they are read upright.
        video_codec: FFmpeg's name.
        has_sound: whether there is a sound track.
        sound_duration: when the last sample ends.
        first_sound: when the first sample is heard.
        sound_rate: samples per second.
        channels: of the sound.
        audio_codec: FFmpeg's name.
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


def probe(path: str | Path) -> MediaInfo:
    """What a video, or a sound file, holds; decodes one picture and a few packets of sound.

    Raises:
        MediaError: when the file is missing, empty, unreadable, neither video nor sound, or cut short.
    """
    timeline = read_timeline(path)
    found: dict[str, int | float | bool | str] = {}
    with opened(timeline.path) as container:
        if timeline.pictures:
            stream = video_stream(container, timeline.path)
            try:
                frame = next(container.decode(stream), None)
            except av.FFmpegError as error:
                raise MediaError(
                    f"{timeline.path}: its first picture cannot be decoded ({error.strerror or error})"
                ) from error
            if frame is None:
                raise MediaError(f"{timeline.path}: none of its pictures can be decoded; fetch or copy it again")
            pictures, matrix = timeline.pictures, upright(frame)
            width, height = (frame.height, frame.width) if matrix[0, 0] == 0 else (frame.width, frame.height)
            gaps = max(1, len(pictures.times) - 1)  # a single picture lasts until the end
            span = (pictures.times[-1] if len(pictures.times) > 1 else pictures.end) - pictures.start
            aspect = stream.sample_aspect_ratio
            found |= {
                "width": width,
                "height": height,
                "fps": float(stream.average_rate or gaps / (int(span) * pictures.time_base)),
                "duration": float(pictures.end * pictures.time_base - timeline.zero),
                "first_frame": float(pictures.start * pictures.time_base - timeline.zero),
                "pixel_aspect": float(aspect) if aspect else 1.0,
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


def sound_duration(path: str | Path) -> float:
    """When the last sample of a file's sound ends, seconds on the clip's clock.

    Raises:
        NoSound: when there is no sound track.
        MediaError: when the file cannot be read.
    """
    timeline = read_timeline(path)
    if timeline.sounds is None:
        raise NoSound(f"{timeline.path}: has no sound track")
    return float(timeline.sounds.end - timeline.zero)
