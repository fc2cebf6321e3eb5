"""Facts of a video file that its header and first picture state, without a judgement."""

from __future__ import annotations

from pathlib import Path

import av

from media import MediaError
from media.source import audio_stream, decoder_options, opened, video_stream
from media.timeline import read_timeline

# Numbers of ITU-T H.273 that files use.
TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 8: "linear", 13: "srgb", 14: "bt2020-10",
             15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"}  # fmt: skip
MATRICES = {0: "rgb", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}
UNSPECIFIED = "unspecified"
HDR = ("smpte2084", "arib-std-b67")


def container_facts(path: Path, sound: Path | None = None) -> dict[str, str | float | int | bool | None]:
    """Columns about the file: codecs, pixels, colours, rates, and the times at which its tracks start.

    Args:
        path: Video file.
        sound: Sound file that replaces the video's own track, or None.

    Raises:
        MediaError: If a file cannot be read or its first picture cannot be decoded.
    """
    timeline = read_timeline(path)
    pictures, sounds = timeline.pictures, timeline.sounds
    if pictures is None:
        raise MediaError(f"{path}: has no video track, only sound; expected a video")
    with opened(timeline.path) as container:
        stream = video_stream(container, timeline.path)
        stream.codec_context.options = decoder_options()
        stream.codec_context.thread_count = 1  # for one picture
        try:
            frame = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise MediaError(f"{path}: its first picture cannot be decoded ({error.strerror or error})") from error
        if frame is None:
            raise MediaError(f"{path}: none of its pictures can be decoded; fetch or copy it again")
        transfer = TRANSFERS.get(int(frame.color_trc), UNSPECIFIED)
        gaps = max(1, len(pictures.times) - 1)
        span = (pictures.times[-1] if len(pictures.times) > 1 else pictures.end) - pictures.start
        facts: dict[str, str | float | int | bool | None] = {
            "video_codec": stream.codec_context.name,
            "pixel_format": frame.format.name,
            "bits": max(component.bits for component in frame.format.components),
            "transfer": transfer,
            "hdr": transfer in HDR,
            "colours": MATRICES.get(int(frame.colorspace), UNSPECIFIED),
            "full_range": int(frame.color_range) == 2 or frame.format.name.startswith("yuvj"),
            "interlaced": bool(frame.interlaced_frame),
            "rotation": round(frame.rotation),
            "pixel_aspect": float(stream.sample_aspect_ratio or 1),
            "fps": float(stream.average_rate or gaps / (max(1, int(span)) * pictures.time_base)),
            "late_picture": float(pictures.start * pictures.time_base - timeline.zero),
            "late_sound": 0.0,
            "has_sound": sound is not None or sounds is not None,
        }
    if sound is None and sounds is not None:
        facts["late_sound"] = float(sounds.start - timeline.zero)
    if facts["has_sound"]:
        file = timeline.path if sound is None else sound
        with opened(file) as container:
            track = audio_stream(container, file)
            facts |= {
                "audio_codec": track.codec_context.name,
                "sound_rate": track.rate,
                "channels": track.channels,
            }
    return facts
