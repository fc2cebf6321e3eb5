"""Times of all pictures and sounds of a file, read from its packets without decoding the pictures.

The clip's clock starts with the first picture or the first audible sample, whichever is earlier. Pictures and sound
read with the same ``start`` and ``end`` therefore belong together, also in files whose timestamps start at 10 s, whose
tracks start at different times, or that have codec delays and edit lists.
"""

from __future__ import annotations

from array import array
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

from media.archives import open_file
from media.display import WIDEST, shown_size
from media.limits import LIMITS, MediaLimits
from media.parts import parts_of
from media.source import MediaError, audio_stream, decoder_options, identify, opened, seconds, video_stream

_BETWEEN = 1 << 18  # packets between two comparisons of the timestamps with the limits
_PRIMING_PACKETS = 64  # packets decoded at most to find the first audible sample
_PARTS = {"video": "pictures", "audio": "packets of sound"}
_HOLE = bytes(64)
_DENSE = ("h264", "hevc", "vp8", "vp9", "av1")
_SLACK = Fraction(1, 2)  # seconds a track may end before the header's duration
_BACK = Fraction(1, 50)  # seconds by which the times of sound go back at most; players ignore as much
# Of these, FFmpeg reads the first of several joined files. Of others it reads all: their times go back, or go on.
_FIRST_ONLY = ("wav", "w64", "aiff", "caf", "flac", "tta", "voc", "mov", "flv", "mxf", "asf")


@dataclass(frozen=True)
class Pictures:
    """The picture track.

    Attributes:
        time_base: Seconds per tick of the timestamps.
        start: Time of the first picture, ticks.
        end: End of the last picture, ticks.
        times: (M,) times of the pictures, ticks, ascending.
        keyframes: (K,) times at which decoding can start, ticks, ascending; empty where the file lacks them.
        aspect: Width of a stored pixel over its height.
    """

    time_base: Fraction
    start: int
    end: int
    times: np.ndarray
    keyframes: np.ndarray
    aspect: Fraction


@dataclass(frozen=True)
class Sounds:
    """The sound track.

    Attributes:
        start: Time of the first audible sample, seconds on the file's own clock.
        end: End of the last sample, seconds on the file's own clock.
    """

    start: Fraction
    end: Fraction


@dataclass(frozen=True)
class Timeline:
    """Both tracks of a file on its own clock; ``zero`` is the start of the clip's clock on it, seconds."""

    path: Path
    zero: Fraction
    pictures: Pictures | None
    sounds: Sounds | None


def read_timeline(path: str | Path, limits: MediaLimits = LIMITS) -> Timeline:
    """The timeline of a file, cached until the file changes.

    Args:
        path: Video or sound file.
        limits: Limits on its tracks, pictures, sound and timestamps.

    Raises:
        MediaError: when the file cannot be opened, holds neither pictures nor sound, is cut short, or exceeds a limit.
    """
    return _read_timeline(*identify(path), limits)


@lru_cache(maxsize=8)
def _read_timeline(path: Path, size: int, modified: int, limits: MediaLimits) -> Timeline:
    del size, modified  # part of the cache's key, so that a changed file is read again
    with opened(path, limits) as container:
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
        scan = _Scan(container, limits)
        if scan.exceeded:
            raise MediaError(f"{path}: {scan.exceeded}; cut out a part of it, or re-encode it")
        pictures = scan.pictures(video) if video else None
        sounds = scan.sounds(audio) if audio else None
        if pictures is None and sounds is None:
            raise MediaError(
                f"{path}: holds no picture and no sound ({scan.damage or 'empty tracks'}); fetch or copy it again"
            )
        kind = container.format.name.partition(",")[0]
        if sounds is not None and not scan.joined and kind in (*_FIRST_ONLY, "ogg"):
            with open_file(path) as file:
                parts = parts_of(file, kind)
            if kind == "ogg":  # whose damaged pages FFmpeg leaves out
                scan.damage = scan.damage or parts[0].note or None
            elif len(parts) > 1:
                scan.joined = f"holds {len(parts)} files"
        if scan.joined:
            raise MediaError(
                f"{path}: {scan.joined} joined to one; only a part would be read: re-encode it to one file"
            )
        damage = scan.missing() or scan.damage
        if damage:
            raise MediaError(f"{path}: damaged or cut short: {damage}; fetch or copy it again")
    if pictures is not None:
        _check_aspect(path, pictures.aspect, video, limits)
    starts = [pictures.start * pictures.time_base] if pictures else []
    starts += [sounds.start] if sounds else []
    if max(starts) - min(starts) > Fraction(limits.gap):
        raise MediaError(
            f"{path}: its tracks start {float(max(starts) - min(starts)):.0f} s apart, expected at most "
            f"{limits.gap:g} s; re-encode it"
        )
    return Timeline(path, min(starts), pictures, sounds)


def _check_aspect(path: Path, aspect: Fraction, stream: VideoStream | None, limits: MediaLimits) -> None:
    assert stream is not None
    if not Fraction(1, WIDEST) <= aspect <= WIDEST:
        raise MediaError(
            f"{path}: its pixels are {float(aspect):.3g} times as wide as high, expected {1 / WIDEST:g} to {WIDEST}; "
            "re-encode it"
        )
    width, height = shown_size(stream.codec_context.width, stream.codec_context.height, aspect)
    if width * height > limits.pixels:
        raise MediaError(
            f"{path}: its pictures have {width}x{height} square pixels, expected at most "
            f"{limits.pixels / 1e6:.0f} megapixels; make them smaller"
        )


class _Packets:
    """Times of the packets of one track that no edit list hides, 17 bytes each.

    Attributes:
        times: (M,) times, ticks.
        durations: (M,) durations, ticks; 0 where unknown.
        keys: (M,) whether decoding can start there.
    """

    def __init__(self) -> None:
        self.times, self.durations, self.keys = array("q"), array("q"), array("b")

    def add(self, packet: av.Packet, time: int) -> None:
        """Adds a packet."""
        self.times.append(time)
        self.durations.append(packet.duration or 0)
        self.keys.append(packet.is_keyframe)

    def sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, durations and keys, ascending."""
        times, durations = (np.frombuffer(row, np.int64) for row in (self.times, self.durations))
        keys = np.frombuffer(self.keys, np.int8)
        order = np.lexsort((keys, durations, times))
        return times[order], durations[order], keys[order].astype(bool)


class _Scan:
    """One pass over the packets of a container.

    Attributes:
        damage: Description of the first damaged packet, or None.
        exceeded: Description of the first limit that the packets exceed, or None; the pass ends there.
        joined: Description of sound whose times go back, or None.
        shown: Stream index -> the packets that are not hidden by an edit list.
        counts: Stream index -> number of packets, hidden ones included.
        first_audible: Stream index -> time of the first sample after the encoder's priming, seconds.
        guessed: Streams whose packets have decoding times only, no presentation times (AVI).
    """

    def __init__(self, container: InputContainer, limits: MediaLimits) -> None:
        self.container = container
        self.limits = limits
        self.damage: str | None = None
        self.exceeded: str | None = None
        self.joined: str | None = None
        self.shown: dict[int, _Packets] = {}
        self.counts: Counter[int] = Counter()
        self.first_audible: dict[int, Fraction] = {}
        self.guessed: set[int] = set()
        read = 0
        streams = [s for s in container.streams if s.type in ("video", "audio") and s.codec_context]
        for stream in streams:
            stream.codec_context.options = decoder_options(limits)
        try:
            for packet in container.demux(streams):
                if packet.size:
                    self._add(packet)
                    read += 1
                if read > limits.packets:
                    self.exceeded = f"has more than {limits.packets} packets of pictures and sound"
                    return
                if packet.size and read % _BETWEEN == 0:
                    self.exceeded = self._beyond(packet.stream.index)
                    if self.exceeded:
                        return
        except av.FFmpegError as error:
            self.damage = f"reading stopped: {error.strerror or error}"
        self.exceeded = next(filter(None, map(self._beyond, self.shown)), None)

    def _add(self, packet: av.Packet) -> None:
        stream = packet.stream
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        if packet.pts is None or self.container.format.name == "avi":
            self.guessed.add(stream.index)
        self.counts[stream.index] += 1
        # Decoders of these codecs accept zeros that a broken download left; an intact packet has no such run.
        hole = stream.codec_context.name in _DENSE and _has_hole(bytes(packet), _has_start_codes(stream))
        if packet.is_corrupt or hole:
            at = f"{float(seconds(time, stream.time_base)):.2f} s"
            self.damage = self.damage or f"{'a hole of zero bytes' if hole else 'damaged data'} at {at}"
        priming = stream.index not in self.first_audible and self.counts[stream.index] <= _PRIMING_PACKETS
        if stream.type == "audio" and priming:
            self._find_first_sample(packet)
        if not packet.is_discard:
            shown = self.shown.setdefault(stream.index, _Packets())
            if stream.type == "audio" and shown.times and not self.joined:
                back = seconds(shown.times[-1] - time, stream.time_base)
                if back > _BACK:
                    last = float(seconds(shown.times[-1], stream.time_base))
                    self.joined = f"its sound goes back by {float(back):.2f} s at {last:.2f} s: it is several files"
            shown.add(packet, time)

    def _beyond(self, index: int) -> str | None:
        """Description of the limit that a track's timestamps exceed, or None."""
        stream = self.container.streams[index]
        tick = seconds(1, stream.time_base)
        if index not in self.shown:
            return None
        times, durations, _ = self.shown[index].sorted()
        ends = int(times[0]), int(times[-1])  # the difference of two int64 may need 65 bits
        part = "picture" if stream.type == "video" else "sound"
        if (ends[1] - ends[0]) * tick > Fraction(self.limits.seconds):
            length = float((ends[1] - ends[0]) * tick)
            return (
                f"its {part} track lasts {length:.0f} s by its timestamps, expected at most {self.limits.seconds:.0f} s"
            )
        steps = np.append(np.diff(times), durations[-1])
        place = int(steps.argmax())
        if int(steps[place]) * tick > Fraction(self.limits.gap):
            jump, at = (float(int(row[place]) * tick) for row in (steps, times))
            return f"the timestamps of its {part} track jump by {jump:.0f} s at {at:.2f} s"
        return None

    def _find_first_sample(self, packet: av.Packet) -> None:
        try:
            for frame in packet.decode():
                if frame.pts is not None:
                    self.first_audible.setdefault(packet.stream.index, seconds(frame.pts, frame.time_base))
        except av.FFmpegError:
            return  # read_sound reports it

    def pictures(self, stream: VideoStream) -> Pictures | None:
        """The picture track, or None when it is empty."""
        if stream.index not in self.shown:
            return None
        times, durations, keys = self.shown[stream.index].sorted()
        gap = int(np.median(np.diff(times))) if len(times) > 1 else _nominal_gap(stream)
        return Pictures(
            time_base=seconds(1, stream.time_base),
            start=int(times[0]),
            end=int(times[-1]) + (int(durations[-1]) or gap),
            times=times,
            keyframes=times[keys] if stream.index not in self.guessed else times[:0],
            aspect=stream.sample_aspect_ratio or Fraction(1),
        )

    def sounds(self, stream: AudioStream) -> Sounds | None:
        """The sound track, or None when it is empty."""
        if stream.index not in self.shown:
            return None
        first, last = self._span(stream.index)
        start = self.first_audible.get(stream.index, first)
        return Sounds(start=start, end=max(last, start))

    def _span(self, index: int) -> tuple[Fraction, Fraction]:
        """Start of a track's first packet and end of its last one, seconds."""
        times, durations, _ = self.shown[index].sorted()
        tick = seconds(1, self.container.streams[index].time_base)
        return int(times[0]) * tick, (int(times[-1]) + int(durations[-1])) * tick

    def missing(self) -> str | None:
        """Description of what the header announces and the file lacks, or None."""
        if "mov" in self.container.format.name:  # the only family whose header counts packets
            for stream in self.container.streams:
                found, expected = self.counts[stream.index], len(stream.index_entries)
                if found < expected and stream.type in ("video", "audio"):
                    return f"{found} of {expected} {_PARTS[stream.type]} could be read"
        if "matroska" in self.container.format.name and self.container.duration:
            end = max(self._span(index)[1] for index in self.shown)
            promised = Fraction(self.container.duration, av.time_base)
            if end < promised - _SLACK:
                return f"{float(end):.2f} of {float(promised):.2f} s are in the file"
        return None


def _nominal_gap(stream: VideoStream) -> int:
    """Duration of one picture by the header, ticks."""
    rate = stream.average_rate or stream.base_rate or 25
    return max(1, round(1 / (rate * seconds(1, stream.time_base))))


def _has_start_codes(stream: VideoStream) -> bool:
    """Whether start codes separate the units of H.264 and HEVC (MPEG-TS, AVI), not lengths (MP4, Matroska)."""
    return stream.codec_context.name in ("h264", "hevc") and not (stream.codec_context.extradata or b"").startswith(
        b"\1"
    )


def _has_hole(data: bytes, start_codes: bool) -> bool:
    """Whether a packet has a run of zeros that no encoder writes. Zeros before a start code or the end are padding."""
    place = data.find(_HOLE)
    while place >= 0:
        end = len(data) - len(data[place:].lstrip(b"\0"))
        if not start_codes or (end < len(data) and data[end] != 1):
            return True
        place = data.find(_HOLE, end)
    return False
