"""Makes small sound files in every container that is read, and the ways in which they are broken."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# ending -> FFmpeg's muxer, codec and sample rate
KINDS = {
    "m4a": ("ipod", "aac", 48_000),
    "mka": ("matroska", "libopus", 48_000),
    "avi": ("avi", "pcm_s16le", 16_000),
    "ts": ("mpegts", "aac", 48_000),
    "mpg": ("mpeg", "mp2", 48_000),
    "flv": ("flv", "libmp3lame", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "ogg": ("ogg", "libopus", 48_000),
    "oga": ("ogg", "flac", 16_000),
    "mxf": ("mxf", "pcm_s16le", 48_000),
    "nut": ("nut", "pcm_s16le", 48_000),
    "wav": ("wav", "pcm_s16le", 16_000),
    "w64": ("w64", "pcm_s16le", 16_000),
    "aiff": ("aiff", "pcm_s16be", 16_000),
    "caf": ("caf", "pcm_s16be", 16_000),
    "au": ("au", "pcm_s16be", 16_000),
    "flac": ("flac", "flac", 16_000),
    "mp3": ("mp3", "libmp3lame", 24_000),
    "aac": ("adts", "aac", 44_100),
    "ac3": ("ac3", "ac3", 48_000),
    "eac3": ("eac3", "eac3", 48_000),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "wv": ("wv", "wavpack", 16_000),
    "tta": ("tta", "tta", 16_000),
    "voc": ("voc", "pcm_u8", 16_000),
}


def wave_of(hertz: float, seconds: float, rate: int, level: float = 0.4) -> np.ndarray:
    """(S,) float32 tone."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def make_recording(path: Path, channels: np.ndarray, layout: str | None = None) -> Path:
    """Writes (C, S) float32 in the container and codec of the name's ending."""
    muxer, codec, rate = KINDS[path.suffix[1:]]
    return make_as(path, channels, muxer, codec, rate, layout)


def make_as(path: Path, channels: np.ndarray, muxer: str, codec: str, rate: int, layout: str | None = None) -> Path:
    """Writes (C, S) float32 with any muxer and codec; MXF needs pictures, too."""
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    with av.open(str(path), "w", format=muxer) as file:
        video = file.add_stream("mpeg2video", rate=25) if muxer == "mxf" else None
        sound = file.add_stream(codec, rate=rate, layout=layout)
        sound.bit_rate = {"libopencore_amrnb": 12_200}.get(codec, 128_000)
        if video is not None:
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for n in range(channels.shape[1] * 25 // rate):
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), n, np.uint8), format="rgb24")
                picture.pts, picture.time_base = n, Fraction(1, 25)
                file.mux(video.encode(picture))
        for start in range(0, channels.shape[1], rate // 25):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(channels[:, start : start + rate // 25]), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            file.mux(sound.encode(frame))
        for stream in (video, sound):
            if stream is not None:
                file.mux(stream.encode())
    return path


def tone_file(path: Path, hertz: float, seconds: float = 1.0) -> Path:
    """Writes a tone of level 0.4 in the container and codec of the name's ending."""
    return make_recording(path, wave_of(hertz, seconds, KINDS[path.suffix[1:]][2])[None])


def joined(path: Path, *parts: Path) -> Path:
    """Joins files byte by byte."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_data_size(path: Path, size: int) -> Path:
    """Writes another size into the header of a WAV file's data, and no size of the whole."""
    data = bytearray(path.read_bytes())
    place = data.index(b"data")
    data[place + 4 : place + 8] = struct.pack("<I", size & 0xFFFFFFFF)
    if size in (0, 0xFFFFFFFF):
        data[4:8] = struct.pack("<I", size)
    path.write_bytes(bytes(data))
    return path


def pitch(samples: np.ndarray, rate: int = 16_000) -> float:
    """The strongest frequency of (S,), Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


def decibels(samples: np.ndarray) -> float:
    """RMS level of samples, dBFS."""
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20))


def level_of(samples: np.ndarray) -> float:
    """Level of a sound without its ends, which codecs change."""
    return decibels(samples[400:-400])
