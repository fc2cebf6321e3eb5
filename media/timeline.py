"""When each picture and sound of a file is shown: read from its packets, without decoding the pictures.

The clip's clock starts where the first picture is shown or the first sound is heard, whichever is earlier, so that
pictures and sound read with the same ``start`` and ``end`` belong together. Timestamps that start at 10 s, a picture
track that starts after the sound, codec delays and edit lists all end here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from media.source import MediaError, audio_stream, identify, opened, seconds, video_stream

_PRIMING_PACKETS = 64  # packets decoded at most to find the first audible sample
_PARTS = {"video": "pictures", "audio": "packets of sound"}
_HOLE = bytes(64)
_DENSE = ("h264", "hevc", "vp8", "vp9", "av1")
_SLACK = Fraction(1, 2)  # seconds a track may end before the header's duration


@dataclass(frozen=True)
class Pictures:
    """The picture track.

    Attributes:
        time_base: seconds per tick of the timestamps.
        start: when the first picture is shown, ticks.
        end: when the last picture ends, ticks.
        times: (M,) when each picture is shown, ticks, ascending.
        keyframes: (K,) timestamps from which decoding can start, ticks, ascending; empty when the file does not say.
    """

    time_base: Fraction
    start: int
    end: int
    times: np.ndarray
    keyframes: np.ndarray


@dataclass(frozen=True)
class Sounds:
    """The sound track.

    Attributes:
        start: when the first sample is heard, seconds on the file's own clock.
        end: when the last sample ends, seconds on the file's own clock.
    """

    start: Fraction
    end: Fraction


@dataclass(frozen=True)
class Timeline:
    """Both tracks of a file on its own clock; ``zero`` is where the clip's clock starts, seconds."""

    path: Path
    zero: Fraction
    pictures: Pictures | None
    sounds: Sounds | None


def read_timeline(path: str | Path) -> Timeline:
    """The timeline of a file, kept until the file changes.

    Raises:
        MediaError: when the file cannot be opened, holds neither pictures nor sound, or is cut short.
    """
    return _read_timeline(*identify(path))


@lru_cache(maxsize=8)
def _read_timeline(path: Path, size: int, modified: int) -> Timeline:
    del size, modified  # only there so that a changed file is read again
    with opened(path) as container:
        if "mov" in container.format.name and not (container.streams.video or container.streams.audio):
            raise MediaError(
                f"{path}: its index is missing: it is cut short or was never finished; fetch or copy it again"
            )
        try:
            video = video_stream(container, path)
        except MediaError:  # sound alone, or with cover art
            if not container.streams.audio:
                raise
            video = None
        audio = audio_stream(container, path) if container.streams.audio else None
        scan = _Scan(container)
        pictures = scan.pictures(video) if video else None
        sounds = scan.sounds(audio) if audio else None
        if pictures is None and sounds is None:
            raise MediaError(
                f"{path}: holds no picture and no sound ({scan.damage or 'empty tracks'}); fetch or copy it again"
            )
        damage = scan.missing() or scan.damage
        if damage:
            raise MediaError(f"{path}: damaged or cut short: {damage}; fetch or copy it again")
    starts = [pictures.start * pictures.time_base] if pictures else []
    starts += [sounds.start] if sounds else []
    return Timeline(path, min(starts), pictures, sounds)


class _Scan:
    """One pass over the packets of a container.

    Attributes:
        damage: what is wrong with the packets, or None.
        shown: stream index -> (time, duration, keyframe) of every packet that is not hidden by an edit list.
        counts: stream index -> how many packets there are, the hidden ones too.
        first_heard: stream index -> time of the first sample left when the encoder's priming is dropped, seconds.
        guessed: streams whose packets say only when they are decoded, not when they are shown (AVI).
    """

    def __init__(self, container: InputContainer) -> None:
        self.container = container
        self.damage: str | None = None
        self.shown: dict[int, list[tuple[int, int, bool]]] = {}
        self.counts: Counter[int] = Counter()
        self.first_heard: dict[int, Fraction] = {}
        self.guessed: set[int] = set()
        try:
            for packet in container.demux([s for s in container.streams if s.type in ("video", "audio")]):
                if packet.size:
                    self._add(packet)
        except av.FFmpegError as error:
            self.damage = f"reading stopped: {error.strerror or error}"

    def _add(self, packet: av.Packet) -> None:
        stream = packet.stream
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        if packet.pts is None or self.container.format.name == "avi":
            self.guessed.add(stream.index)
        self.counts[stream.index] += 1
        # Decoders of these codecs do not notice a hole that a broken download left; a real packet has no such run.
        hole = stream.codec_context.name in _DENSE and _HOLE in bytes(packet)
        if packet.is_corrupt or hole:
            at = f"{float(seconds(time, stream.time_base)):.2f} s"
            self.damage = self.damage or f"{'a hole of zero bytes' if hole else 'damaged data'} at {at}"
        priming = stream.index not in self.first_heard and self.counts[stream.index] <= _PRIMING_PACKETS
        if stream.type == "audio" and priming:
            self._listen(packet)
        if not packet.is_discard:
            self.shown.setdefault(stream.index, []).append((time, packet.duration or 0, packet.is_keyframe))

    def _listen(self, packet: av.Packet) -> None:
        try:
            for frame in packet.decode():
                if frame.pts is not None:
                    self.first_heard.setdefault(packet.stream.index, seconds(frame.pts, frame.time_base))
        except av.FFmpegError:
            return  # read_sound reports it

    def pictures(self, stream: VideoStream) -> Pictures | None:
        """The picture track, or None when it holds nothing."""
        rows = sorted(self.shown.get(stream.index, ()))
        if not rows:
            return None
        times = np.array([time for time, _, _ in rows], np.int64)
        gap = int(np.median(np.diff(times))) if len(times) > 1 else _nominal_gap(stream)
        return Pictures(
            time_base=seconds(1, stream.time_base),
            start=int(times[0]),
            end=int(times[-1]) + (rows[-1][1] or gap),
            times=times,
            keyframes=np.array([time for time, _, key in rows if key and stream.index not in self.guessed], np.int64),
        )

    def sounds(self, stream: AudioStream) -> Sounds | None:
        """The sound track, or None when it holds nothing."""
        rows = self.shown.get(stream.index)
        if not rows:
            return None
        start = self.first_heard.get(stream.index, seconds(min(rows)[0], stream.time_base))
        last = max(rows)
        return Sounds(start=start, end=max(seconds(last[0] + last[1], stream.time_base), start))

    def missing(self) -> str | None:
        """Says so when there is less in the file than its header promises."""
        if "mov" in self.container.format.name:  # the only family whose header counts packets
            for stream in self.container.streams:
                found, expected = self.counts[stream.index], len(stream.index_entries)
                if found < expected and stream.type in ("video", "audio"):
                    return f"{found} of {expected} {_PARTS[stream.type]} could be read"
        if "matroska" in self.container.format.name and self.container.duration:
            streams = self.container.streams
            end = max(
                seconds(max(rows)[0] + max(rows)[1], streams[index].time_base) for index, rows in self.shown.items()
            )
            promised = Fraction(self.container.duration, av.time_base)
            if end < promised - _SLACK:
                return f"{float(end):.2f} of {float(promised):.2f} s are in the file"
        return None


def _nominal_gap(stream: VideoStream) -> int:
    """Duration of one picture by the header, ticks."""
    rate = stream.average_rate or stream.base_rate or 25
    return max(1, round(1 / (rate * seconds(1, stream.time_base))))
