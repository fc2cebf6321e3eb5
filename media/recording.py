"""Sound of any file for a listener: all of it, with every channel, and with notes on what had to be repaired.

``read_sound`` is strict, for data that is learnt from or compared: what is damaged is an error. ``read_recording``
reads somebody's own speech: what every player plays is read. Both give the same samples where nothing is wrong.

Repairs: wrong sizes in WAV headers; files joined to one (all parts are read); packets that cannot be decoded and gaps
of the timestamps (silence); timestamps that restart or jump (read one after the other); files that are cut short.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from media.archives import open_file
from media.limits import LIMITS, MediaLimits
from media.mixing import mix
from media.parts import MAX_PARTS, parts_of
from media.probe import MediaInfo
from media.repairs import Clock, Repairs
from media.sound import planes, resample
from media.source import (
    MediaError,
    audio_stream,
    decoder_options,
    identify,
    opened,
    opened_part,
    seconds,
    video_stream,
)
from media.timeline import read_timeline

_CUT = Fraction(1, 2)  # seconds by which a file may be shorter than its header states
# The lengths that these demuxers give are guessed from the size of the file, or are those of the pictures.
_GUESSED = ("mp3", "aac", "ac3", "eac3", "dts", "amr", "mpegts", "mpeg", "matroska", "asf", "flv", "wav", "avi", "ogg")
_TIMED = ("matroska", "flv")  # state the length of the whole file
# Decoders of these detect damage by a checksum, and go on with noise unless they have to stop.
_CHECKED = ("flac", "tta", "wavpack", "ape", "ac3", "eac3")
_COPIED = {"aac": "AAC", "mp3float": "MP3", "mp3": "MP3"}  # decoder -> codec that players take in MP4
_LOWEST_COPIED = 16_000  # samples per second of MP3 that MP4 takes
_LONGEST_PACKET = Fraction(30)  # seconds; those of Monkey's Audio have up to 27
_LONGEST_OPUS = Fraction(1, 4)  # seconds; a packet of Opus holds several frames, 0.12 s at most
_HIGHEST = 2.0**32  # of samples; integers of 32 bits that were stored as floats are lower
_FILLED = Fraction(1, 4)  # seconds that encoders add at most to fill the last packet


@dataclass(frozen=True)
class Recording:
    """The sound of a file.

    Attributes:
        mono: (S,) float32 at ``rate``, mixed by ``media.mixing``; not limited to [-1, 1].
        channels: (C, S) float32 at ``rate``, as in the file, except that inverted channels are turned.
        rate: Samples per second of the file.
        layout: FFmpeg's name of the channels: mono, stereo, 5.1, ...
        codec: Name of the codec if the file's packets can be copied into an MP4 and sound as ``channels`` do; else "".
        notes: What was repaired or chosen, in words.
    """

    mono: np.ndarray
    channels: np.ndarray
    rate: int
    layout: str
    codec: str
    notes: tuple[str, ...]

    def at(self, rate: int, *, channels: bool = False) -> np.ndarray:
        """The sound at another rate: (S,) float32, or (C, S) with ``channels``."""
        rows = [_at(row, self.rate, rate) for row in (self.channels if channels else self.mono[None])]
        return np.stack(rows) if channels else rows[0]


def read_recording(path: str | Path, limits: MediaLimits = LIMITS) -> Recording:
    """Reads the sound of a file from its beginning to its end and repairs what is damaged.

    In a file with pictures, sound that starts after them is preceded by silence.

    Args:
        path: Sound or video file; its name does not matter.
        limits: Limits on tracks, packets, samples (of all channels) and seconds.

    Raises:
        NoSound: when the file has no sound track.
        MediaError: when it cannot be opened, less than half of its packets can be decoded, or it exceeds a limit.
    """
    path = identify(path)[0]
    repairs = Repairs()
    pieces: list[_Piece] = []
    budget = _Budget(path, limits)
    copied = ""
    for container, lead in _containers(path, limits, repairs):
        stream = audio_stream(container, path)
        copied = _copied(stream) if not (pieces or lead) else ""
        pieces += _decoded(container, stream, lead, budget, repairs)
        if len(container.streams.audio) > 1:
            repairs.add(
                "tracks", f"has {len(container.streams.audio)} sound tracks; number {_number(container)} is used"
            )
    if not any(piece.length for piece in pieces):
        reason = f" ({repairs.reason})" if repairs.reason else ""
        raise MediaError(
            f"{path}: nothing of its sound can be decoded{reason}; it is empty, damaged or cut short: fetch or copy it "
            "again"
        )
    if 2 * (damaged := repairs.number("damaged")) > budget.packets:
        raise MediaError(
            f"{path}: {damaged} of {budget.packets} packets of its sound cannot be decoded; fetch or copy it again"
        )
    if copied:
        try:
            read_timeline(path, limits)
        except MediaError:  # its pictures are damaged
            copied = ""
    return _joined(path, [piece for piece in pieces if piece.length], repairs, copied)


def probe_recording(path: str | Path, limits: MediaLimits = LIMITS) -> MediaInfo:
    """Reads the length of a file's sound as ``read_recording`` does, from its packets; decodes the first ones.

    Raises:
        NoSound, MediaError: as of ``read_recording``.
    """
    path = identify(path)[0]
    total, found = Fraction(0), None
    packets = 0
    for container, lead in _containers(path, limits, Repairs()):
        stream = audio_stream(container, path)
        stream.codec_context.options = decoder_options(limits)
        clock = Clock(lead, Repairs())
        decoded = False
        for packet in _demuxed(container, stream, Repairs()):
            packets += 1
            if packets > limits.packets:
                raise MediaError(f"{path}: has more than {limits.packets} packets of sound; cut out a part of it")
            if not decoded:
                try:
                    decoded = any(packet.decode())
                except av.FFmpegError:
                    decoded = False
            if packet.is_discard:
                continue
            clock.place(_time(packet, stream), _length(packet, stream))
            if total + clock.end > Fraction(limits.seconds):
                raise MediaError(
                    f"{path}: its sound lasts more than {limits.seconds:.0f} s, expected at most that; cut out a part "
                    "of it"
                )
        total += clock.end
        context = stream.codec_context
        found = found or (context.name, stream.rate, stream.channels)
    assert found is not None
    return MediaInfo(
        has_sound=True, sound_duration=float(total), sound_rate=found[1], channels=found[2], audio_codec=found[0]
    )


@dataclass
class _Budget:
    """What may still be decoded."""

    path: Path
    limits: MediaLimits
    samples: int = 0
    seconds: Fraction = Fraction(0)
    packets: int = 0

    def take(self, channels: int, samples: int, rate: int) -> None:
        """Takes decoded sound, or silence in its place, off the budget."""
        self.samples += channels * samples
        self.seconds += Fraction(samples, rate)
        if self.samples > self.limits.samples:
            raise MediaError(
                f"{self.path}: has more than {self.limits.samples} samples in all channels after "
                f"{float(self.seconds):.0f} s, {self.limits.samples} samples at most are read at once; cut out a part"
            )
        if self.seconds > Fraction(self.limits.seconds):
            raise MediaError(f"{self.path}: lasts longer than {self.limits.seconds:.0f} s; cut out a part of it")

    def take_packet(self) -> None:
        """Takes a packet off the budget."""
        self.packets += 1
        if self.packets > self.limits.packets:
            raise MediaError(f"{self.path}: has more than {self.limits.packets} packets of sound; cut out a part of it")


class _Piece:
    """Decoded sound with one rate and layout, and silence."""

    def __init__(self, rate: int, layout: str, names: list[str]) -> None:
        self.rate, self.layout, self.names = rate, layout, names
        self.blocks: list[np.ndarray] = []
        self.length = 0

    def add(self, block: np.ndarray) -> None:
        """Adds (C, S) float32."""
        self.blocks.append(block)
        self.length += block.shape[1]

    def add_silence(self, samples: int) -> None:
        """Adds zeros."""
        if samples > 0:
            self.add(np.zeros((len(self.names), samples), np.float32))

    def cut(self, samples: int) -> None:
        """Removes samples at the end."""
        while samples > 0 and self.blocks:
            block = self.blocks.pop()
            self.length -= block.shape[1]
            if block.shape[1] > samples:
                self.add(block[:, : block.shape[1] - samples])
            samples -= block.shape[1]

    def whole(self) -> np.ndarray:
        """(C, S) float32; the blocks are given up."""
        whole = np.empty((len(self.names), self.length), np.float32)
        place = 0
        for block in self.blocks:
            whole[:, place : place + block.shape[1]] = block
            place += block.shape[1]
        self.blocks.clear()
        return whole


def _containers(path: Path, limits: MediaLimits, repairs: Repairs) -> Iterator[tuple[InputContainer, Fraction]]:
    """Opens the parts of a file one after the other.

    Yields:
        A container, and the seconds by which its sound starts after its pictures.
    """
    with opened(path, limits) as container:
        kind = container.format.name
        if "mov" in kind and not (container.streams.best("audio") or container.streams.best("video")):
            raise MediaError(
                f"{path}: its index is missing: it is cut short or was never finished; fetch or copy it again"
            )
        with open_file(path) as file:
            parts = parts_of(file, kind)
        for part in parts:
            if part.note and not part.patches:
                repairs.add("cut", part.note)
        if len(parts) == 1 and not parts[0].patches:
            yield container, _lead(container, path, limits, repairs)
            return
    if len(parts) > 1:
        most = ", the most that are read" if len(parts) == MAX_PARTS else ""
        repairs.add("parts", f"is {len(parts)} files joined to one; all are read{most}")
    for part in parts:
        if part.patches:
            repairs.add("header", part.note)
        try:
            with opened_part(path, part, kind, limits) as container:
                if container.streams.audio:
                    yield container, _lead(container, path, limits, repairs) if len(parts) == 1 else Fraction(0)
                elif len(parts) == 1:
                    audio_stream(container, path)  # its error
        except MediaError as error:
            if len(parts) == 1 or "part at byte" not in str(error):
                raise
            repairs.add("part", f"its part at byte {part.start} of {part.start + part.size} cannot be read; left out")


def _lead(container: InputContainer, path: Path, limits: MediaLimits, repairs: Repairs) -> Fraction:
    """Seconds by which the sound starts after the pictures."""
    audio = audio_stream(container, path)
    try:
        video = video_stream(container, path)
    except MediaError:
        return Fraction(0)
    try:
        timeline = read_timeline(path, limits)
        lead = timeline.sounds.start - timeline.zero if timeline.sounds else Fraction(0)
    except MediaError:  # damage, also of the pictures
        lead = seconds(audio.start_time or 0, audio.time_base) - seconds(video.start_time or 0, video.time_base)
    if lead > Fraction(limits.gap):
        repairs.add("lead", f"its sound starts {float(lead):.0f} s after its pictures; that silence is left out")
        return Fraction(0)
    return max(lead, Fraction(0))


def _demuxed(container: InputContainer, stream: AudioStream, repairs: Repairs) -> Iterator[av.Packet[AudioStream]]:
    """The packets of a stream, the empty one at the end included, up to the first error of the container."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError as error:
        repairs.reason = repairs.reason or str(error.strerror or error)
        repairs.add("stopped", f"cannot be read to its end ({repairs.reason}); what comes before is read")


def _decoded(
    container: InputContainer, stream: AudioStream, lead: Fraction, budget: _Budget, repairs: Repairs
) -> list[_Piece]:
    """Decodes the sound of a container."""
    strict = "+explode" if stream.codec_context.name in _CHECKED else ""
    stream.codec_context.options = decoder_options(budget.limits, err_detect=f"crccheck{strict}")
    clock = Clock(lead, repairs)
    pieces: list[_Piece] = []
    waiting = lead  # seconds of silence before the next frame
    last: Fraction | None = None  # end of the last packet by its timestamp
    incomplete = False  # the last packet
    for packet in _demuxed(container, stream, repairs):
        budget.take_packet()
        time = _time(packet, stream)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            repairs.reason = repairs.reason or str(error.strerror or error)
            if packet.size and packet.is_corrupt:
                incomplete = True
            elif packet.size:
                repairs.count("damaged", clock.end)
                length = _length(packet, stream)
                waiting += clock.place(None, length) + length
            continue
        incomplete = packet.is_corrupt if packet.size else incomplete
        decoded = sum((Fraction(frame.samples, frame.sample_rate) for frame in frames), Fraction(0))
        # FFmpeg joins frames around damage to one packet, with the time of one of them.
        timed = not packet.size or decoded < 2 * _length(packet, stream)
        if not (timed or pieces) and container.format.name == "flac":  # whose times count from the first sample
            clock.start(Fraction(0))
        if packet.size and time is not None and not packet.is_discard and _length(packet, stream):
            last = time + _length(packet, stream)
        for frame in frames:
            rate, layout = frame.sample_rate, frame.layout
            piece = pieces[-1] if pieces else None
            if piece is None or (piece.rate, piece.layout) != (rate, layout.name):
                piece = _Piece(rate, layout.name, [channel.name for channel in layout.channels])
                pieces.append(piece)
            at = seconds(frame.pts, frame.time_base) if frame.pts is not None and timed else None
            waiting += clock.place(at, Fraction(frame.samples, rate))
            silence = round(waiting * rate)
            waiting -= Fraction(silence, rate)
            budget.take(len(piece.names), silence + frame.samples, rate)
            piece.add_silence(silence)
            piece.add(planes(frame))
    if not pieces:
        return []
    piece = pieces[-1]
    silence = round(waiting * piece.rate)  # damage at the end
    budget.take(len(piece.names), silence, piece.rate)
    piece.add_silence(silence)
    end = clock.until(last) if last is not None else None
    if end is not None and 0 < clock.end - end < _FILLED:
        piece.cut(round((clock.end - end) * piece.rate))
    if incomplete:
        repairs.add("cut", f"is cut short after {float(clock.end):.2f} s of sound, within a packet")
    _note_cut(container, stream, clock.end, repairs)
    return pieces


def _note_cut(container: InputContainer, stream: AudioStream, end: Fraction, repairs: Repairs) -> None:
    """Adds a note if a container lasts less than its header states."""
    kind = container.format.name.partition(",")[0]
    promised = Fraction(0)
    if kind in _TIMED and container.duration and not container.streams.video:  # else the length may be the pictures'
        start = seconds(stream.start_time or 0, stream.time_base)
        promised = Fraction(container.duration, av.time_base) - max(Fraction(0), start)
    elif stream.duration and kind not in _GUESSED:
        promised = seconds(stream.duration, stream.time_base)
    # A length that includes a jump of the timestamps promises no sound.
    if end < promised - _CUT and not repairs.number("jump"):
        repairs.add("cut", f"is cut short: {float(end):.2f} of {float(promised):.2f} s of sound are in the file")


def _time(packet: av.Packet, stream: AudioStream) -> Fraction | None:
    time = packet.pts if packet.pts is not None else packet.dts
    return None if time is None else seconds(time, stream.time_base)


def _length(packet: av.Packet, stream: AudioStream) -> Fraction:
    """Length of a packet in seconds by its duration, at most what its codec can hold."""
    context = stream.codec_context
    frame = Fraction(context.frame_size, stream.rate) if context.frame_size and stream.rate else Fraction(0)
    length = seconds(packet.duration or 0, stream.time_base)
    if packet.size and not length:
        return frame
    return min(length, max(2 * frame, _LONGEST_OPUS) if frame else _LONGEST_PACKET)


def _joined(path: Path, pieces: list[_Piece], repairs: Repairs, copied: str) -> Recording:
    """Mixes the pieces and puts them one after the other, at the rate of the first."""
    first = pieces[0]
    alike = all((piece.rate, piece.layout) == (first.rate, first.layout) for piece in pieces)
    if not alike:
        repairs.add("changes", "its sample rate or channels change on the way; one rate, and one channel, are used")
    wholes = [piece.whole() for piece in pieces]
    if not all(np.isfinite(whole).all() for whole in wholes):
        raise MediaError(f"{path}: its sound holds values that are not numbers; export it again")
    if alike:
        mixed = mix(np.concatenate(wholes, axis=1) if len(wholes) > 1 else wholes[0], first.names, first.rate)
        mono, channels, layout, notes = mixed.mono, mixed.channels, first.layout, mixed.notes
    else:
        mixes = [mix(whole, piece.names, piece.rate) for whole, piece in zip(wholes, pieces, strict=True)]
        rows = [_at(one.mono, piece.rate, first.rate) for one, piece in zip(mixes, pieces, strict=True)]
        mono, layout = np.concatenate(rows), "mono"
        channels, notes = mono[None], tuple(dict.fromkeys(note for one in mixes for note in one.notes))
    turned = any("inverted" in note for note in notes)
    peak = float(max(abs(channels.max()), abs(channels.min())))
    if peak > _HIGHEST:
        raise MediaError(f"{path}: its sound holds values of {peak:.0e}, full scale is 1; export it again")
    if peak > 1:
        level = 20 * np.log10(peak)
        repairs.add("peak", f"its peak is {peak:.2f}, {level:.1f} dB over full scale; kept as it is")
    untouched = alike and not turned and not (repairs.kinds() - {"tracks", "peak"})
    return Recording(mono, channels, first.rate, layout, copied if untouched else "", (*repairs.notes(), *notes))


def _at(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """(S,) float32 at another rate, filtered as ``read_sound`` does, with a second of silence on both sides."""
    if source_rate == rate:
        return samples
    padded = np.pad(samples, source_rate)
    return resample(padded, source_rate, rate)[rate : rate + round(Fraction(len(samples), source_rate) * rate)]


def _copied(stream: AudioStream) -> str:
    """Name of a stream's codec if players take it in MP4, else an empty text."""
    return _COPIED.get(stream.codec_context.name, "") if stream.rate >= _LOWEST_COPIED else ""


def _number(container: InputContainer) -> int:
    """Number of the sound track that FFmpeg takes for the main one, from 1."""
    best = container.streams.best("audio")
    return 1 + [stream.index for stream in container.streams.audio].index(best.index if best else 0)
