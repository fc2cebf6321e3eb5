"""Writes clips whose frames show their index, with a simultaneous flash and click."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.helpers.sound import sound_frame

BITS = 8
FLASH = 1.0  # seconds after the first picture


def coded(index: int, size: tuple[int, int], flash: bool = False) -> np.ndarray:
    """Draws ``index`` as eight black or white stripes in the upper half; with ``flash`` the lower half is white."""
    width, height = size
    picture = np.full((height, width, 3), 40, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        picture[: height // 2, left:right] = 235 if index >> bit & 1 else 16
    picture[height // 2 :] = 250 if flash else (30 + index % 64, 60, 90)
    return picture


def index_of(picture: np.ndarray) -> int:
    """Reads the index from a picture."""
    height, width = picture.shape[:2]
    row = picture[height // 4].mean(-1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128)


def flashes(picture: np.ndarray) -> bool:
    return bool(picture[picture.shape[0] * 3 // 4 :].mean() > 180)


def frame_times(rate: Fraction | int, seconds: float = 2.0) -> list[Fraction]:
    return [Fraction(k) / rate for k in range(int(seconds * rate))]


def click(times: list[Fraction], rate: int, seconds: float, at: float) -> np.ndarray:
    """Returns (S,) float32 silence with a 4 ms burst of 1 kHz at ``at`` seconds."""
    samples = np.zeros(round(seconds * rate), np.float32)
    first, burst = round(at * rate), np.arange(round(0.004 * rate))
    sound = 0.9 * np.sin(2 * np.pi * 1000 * burst / rate)
    samples[first : first + len(burst)] = sound[: max(0, len(samples) - first)]
    return samples


def make_clip(
    path: Path,
    times: list[Fraction],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (96, 64),
    time_base: Fraction | None = Fraction(1, 120_000),
    video_start: float = 0.0,
    audio: str | None = "aac",
    audio_rate: int = 48_000,
    audio_start: float = 0.0,
    audio_seconds: float | None = None,
    channels: int = 1,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a clip whose frame k has the time ``video_start + times[k]``; the click starts with the flash.

    The flash starts with the first frame at or after FLASH and lasts three frames.
    """
    flash = next((k for k, time in enumerate(times) if time >= FLASH), len(times))
    rate = Fraction(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else Fraction(25)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate.limit_denominator(1001))
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.options = {"g": "12", **({"crf": "12"} if codec == "libx264" else {}), **(options or {})}
        base = time_base or 1 / rate
        video.codec_context.time_base = base
        if audio:
            sound = container.add_stream(audio, rate=audio_rate, layout="mono" if channels == 1 else "stereo")
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(coded(k, size, flash <= k < flash + 3), format="rgb24")
            frame.pts, frame.time_base = round((time + Fraction(video_start)) / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio:
            heard = float(times[flash]) + video_start - audio_start if flash < len(times) else 1.0
            length = audio_seconds or float(times[-1] + 1 / rate) + video_start - audio_start
            samples = click(times, audio_rate, length, heard)
            block = sound_frame(np.tile(samples, (channels, 1)), audio_rate, round(audio_start * audio_rate))
            container.mux(sound.encode(block))
            container.mux(sound.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int], width: int, height: int) -> None:
    """Writes a display matrix (a, b, c, d) into the first track header of an MP4, as phones do for rotated videos."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value << 16 for value in matrix)
    x = width << 16 if a + c < 0 else 0
    y = height << 16 if b + d < 0 else 0
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(data)
