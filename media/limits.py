"""Limits on foreign media files: what a file may ask for, and what looking at it may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediaLimits:
    """What a file may ask for.

    The defaults fit recordings for training; a caller that serves strangers sets lower ones. A file's header and
    timestamps cost nothing to write, so they are compared with these numbers before memory is allocated for them.

    Attributes:
        pixels: Pixels of one picture; 8K video has 33 million.
        seconds: Length of a track.
        gap: Seconds between two pictures or sounds that follow each other, and between the starts of two tracks.
        streams: Tracks of a file, attached fonts and pictures included.
        packets: Packets of all pictures and sounds of a file.
        samples: Samples of sound that are read at once; 2**29 are 3 h at 48 kHz and 2 GiB.
        sound_rate: Samples per second of a sound track.
        channels: Channels of a sound track.
        picture_bytes: Bytes of a picture file.
        look_seconds: Seconds that looking at a file may take (``media.look``).
        look_memory: Bytes that looking at a file may take in addition to the interpreter.
    """

    pixels: int = 40_000_000
    seconds: float = 24 * 3600.0
    gap: float = 600.0
    streams: int = 100
    packets: int = 20_000_000
    samples: int = 1 << 29
    sound_rate: int = 768_000
    channels: int = 64
    picture_bytes: int = 256 << 20
    look_seconds: float = 10.0
    look_memory: int = 512 << 20


LIMITS = MediaLimits()
RECORDINGS = MediaLimits(look_seconds=600.0)  # an hour of video may come from a busy network disk
