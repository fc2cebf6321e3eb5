"""Sound of any file as mono float32, on the same clock as its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from media.limits import LIMITS
from media.mixing import cancelled
from media.source import CancelledSound, MediaError, NoSound, audio_stream, decoder_options, opened, seconds
from media.timeline import read_timeline

_SLACK = Fraction(1, 10)  # seconds by which decoded sound may be shorter than its packets
JITTER = 0.02  # seconds; smaller differences of timestamps are no gaps or overlaps


def read_sound(path: str | Path, *, start: float = 0.0, end: float | None = None, rate: int = 16_000) -> np.ndarray:
    """Reads the sound between two times on the clip's clock, the one ``read_frames`` uses.

    Channels are averaged, then resampled by libswresample. Sound that starts after the pictures is preceded by zeros.
    Gaps in its timestamps are filled with zeros. What an encoder added before the first sample is dropped. When the
    sound ends before ``end``, the result is shorter.

    Args:
        path: Sound or video file, any container and codec FFmpeg reads; its name does not matter.
        start: Begin of the span on the clip's clock, seconds.
        end: End of the span on the clip's clock, seconds; None for the end of the sound.
        rate: Samples per second of the result.

    Returns:
        (S,) float32 in [-1, 1], S = round((min(end, end of the sound) - start) * rate). ``sound_duration`` reads the
        end from the packets; decoding ends a few ms earlier where an encoder padded the last packet (MP3).

    Raises:
        NoSound: when the file has no sound track.
        MediaError: when the sound is damaged, is that of several files joined to one, or ends before ``start``.
        CancelledSound: when the mean is silent because a channel is inverted.
        ValueError: when ``start`` is negative or not before ``end``.
    """
    if start < 0 or (end is not None and end <= start):
        raise ValueError(f"expected 0 <= start < end, found start={start}, end={end}")
    timeline = read_timeline(path)
    path = timeline.path
    if timeline.sounds is None:
        raise NoSound(f"{path}: has no sound track")
    begin = Fraction(start).limit_denominator(1_000_000)
    stop = timeline.sounds.end - timeline.zero
    if end is not None:
        stop = min(stop, Fraction(end).limit_denominator(1_000_000))
    if stop <= begin:
        raise MediaError(
            f"{path}: its sound ends at {float(stop):.3f} s, before {start:.3f} s where reading should start"
        )
    samples, source_rate, seconds = _decode(path, begin + timeline.zero, stop + timeline.zero)
    samples = resample(samples, source_rate, rate)
    length = round(seconds * rate)
    return np.clip(samples[rate : rate + length], -1.0, 1.0)


def resample(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Changes the rate of (S,) float32 with libswresample; (ceil(S * rate / source_rate),) float32."""
    length = -(-len(samples) * rate // source_rate)
    if source_rate == rate:
        return samples
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    done = []
    for block in np.array_split(samples, max(1, len(samples) // source_rate)):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block)[None], format="fltp", layout="mono")
        frame.sample_rate = source_rate
        done += resampler.resample(frame)
    done += resampler.resample(None)
    out = np.concatenate([frame.to_ndarray()[0] for frame in done])
    return np.pad(out, (0, max(0, length - len(out))))[:length]


def _decode(path: Path, start: Fraction, stop: Fraction) -> tuple[np.ndarray, int, Fraction]:
    """Decodes the sound from one second before ``start`` to one second after ``stop``, for the resampler's filter.

    Times are on the file's own clock.

    Returns:
        (S,) float32 mean of the channels, its samples per second, and how many seconds of the span hold sound.
    """
    room: np.ndarray | None = None
    rate = expected = reached = 0
    energies: dict[int, np.ndarray] = {}  # number of channels -> their energies, then that of their mean
    errors: list[str] = []
    for frame, gapless in _frames(path, start, stop, errors):
        if room is None:
            rate = frame.sample_rate
            if (stop - start) * rate > LIMITS.samples:
                raise MediaError(
                    f"{path}: {float(stop - start):.0f} s of sound at {rate} samples per second were asked for, "
                    f"{LIMITS.samples} samples at most are read at once; cut out a part of it"
                )
            room = np.zeros(round((stop - start) * rate) + 2 * rate, np.float32)
            expected = _position(frame, start, rate)
        if frame.sample_rate != rate:
            raise MediaError(f"{path}: its sample rate changes from {rate} to {frame.sample_rate}; re-encode it")
        place = _position(frame, start, rate) if frame.pts is not None else expected
        if abs(place - expected) <= JITTER * rate:
            place = expected
        elif gapless and place > max(expected, rate):
            errors.append(f"a part is missing at {float(Fraction(place, rate) - 1 + start):.2f} s")
        if place + frame.samples <= 0:  # before the span: decoded, since codecs have memory, and not converted
            expected = place + frame.samples
            continue
        channels = planes(frame)
        mono = channels.mean(0, dtype=np.float32)
        expected = place + len(mono)
        if len(channels) > 1 and expected > rate:  # inside of the span
            energies.setdefault(len(channels), np.zeros(len(channels) + 1))
            energies[len(channels)] += [*np.einsum("cs,cs->c", channels, channels), mono @ mono]
        mono = mono[max(0, -place) :]
        place = max(0, place)
        mono = mono[: max(0, len(room) - place)]
        room[place : place + len(mono)] = mono
        reached = max(reached, place + len(mono))
        if reached >= len(room):
            break
    span = stop - start
    got = min(Fraction(max(0, reached - rate), rate or 1), span)
    if errors or room is None or got < span - _SLACK:
        why = errors[0] if errors else "it ends early"
        raise MediaError(
            f"{path}: its sound is damaged ({why}): {float(got):.2f} of {float(span):.2f} s could be decoded; "
            "fetch or copy it again"
        )
    if not np.isfinite(room).all():
        raise MediaError(f"{path}: its sound holds values that are not numbers; export it again")
    for found in energies.values():
        if cancelled(found[-1], found[:-1]):
            raise CancelledSound(
                f"{path}: its channels cancel each other, so that their mean is silent (one is inverted); invert that "
                "channel, or keep one channel alone"
            )
    return room, rate, got


def _position(frame: av.AudioFrame, start: Fraction, rate: int) -> int:
    """Index of a frame's first sample in a buffer that begins one second before ``start``."""
    time = seconds(frame.pts, frame.time_base) if frame.pts is not None else start
    return round((time - start + 1) * rate)


def _frames(path: Path, start: Fraction, stop: Fraction, errors: list[str]) -> Iterator[tuple[av.AudioFrame, bool]]:
    """Decodes from the beginning: seeking is inexact in MP3, and disturbs the first frames of other codecs.

    Yields:
        A frame, and whether a gap before it can only be damage.
    """
    with opened(path) as container:
        gapless = container.format.name in ("flac", "ogg")  # their demuxers leave out what is damaged
        stream = audio_stream(container, path)
        stream.codec_context.options = decoder_options(err_detect="crccheck")
        try:
            for packet in container.demux(stream):
                try:
                    yield from ((frame, gapless) for frame in packet.decode())
                except av.FFmpegError as error:
                    time = seconds(packet.pts, packet.time_base) if packet.pts is not None else start
                    if start <= time < stop:
                        errors.append(f"{error.strerror or error} at {float(time):.2f} s")
        except av.FFmpegError as error:
            errors.append(str(error.strerror or error))


def planes(frame: av.AudioFrame) -> np.ndarray:
    """(C, S) float32: the channels of one decoded frame."""
    converter = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
    return np.concatenate(
        [piece.to_ndarray() for piece in (*converter.resample(frame), *converter.resample(None))], axis=1
    )
