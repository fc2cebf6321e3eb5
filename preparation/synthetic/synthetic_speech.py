"""Synthetic speech by a source-filter model, with the matching lip shapes.

Formant resonators filter a glottal pulse train and noise (Fant's source-filter theory) in overlapping 20 ms frames.
Every control track has 200 values per second.

Shapes: F video frames, N control points, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import hann

from encoders.protocols import FPS, SAMPLE_RATE
from preparation.synthetic.emotions import VoiceStyle
from preparation.synthetic.sentence import PHONES, VOWELS, Spoken, random_sentence
from preparation.synthetic.world import Voice

CONTROL_RATE = 200
HOP = SAMPLE_RATE // CONTROL_RATE
WINDOW, NFFT = 4 * HOP, 1024
RMS_OF_A = 0.09  # RMS of a stressed, neutral [a]; leaves headroom for peaks and loud emotions
ROOM_NOISE = 2e-4
NEUTRAL_FORMANTS = (500.0, 1500.0, 2500.0)
BANDWIDTHS = np.array([80.0, 100.0, 140.0, 200.0, 260.0])


@dataclass(frozen=True)
class SyntheticSpeech:
    """Synthetic speech with its control tracks.

    Attributes:
        sound: (S,) float32 mono at 16 kHz in [-1, 1], S = 640 F.
        phones: Phones with their times.
        phrases: (start, end) of each phrase between pauses, seconds.
        lips: (F, 3) opening, width and rounding in the middle of each frame.
        loudness: (F,) RMS level of the frame's samples, 0 at -60 dBFS to 1 at -10 dBFS.
        f0: (F,) pitch in Hz, 0 where unvoiced.
        accent: (F,) stress, 0 to 1, high on stressed syllables.
        energy: (F,) amplitude of the voice, smoothed over a third of a second, 0 to about 1.
    """

    sound: np.ndarray
    phones: tuple[Spoken, ...]
    phrases: tuple[tuple[float, float], ...]
    lips: np.ndarray
    loudness: np.ndarray
    f0: np.ndarray
    accent: np.ndarray
    energy: np.ndarray


def speak(voice: Voice, style: VoiceStyle, sentence_seed: int, seconds: float) -> SyntheticSpeech:
    """Synthesises a random sentence of length ``seconds``.

    Equal seeds give the same phones in the same order for every voice and style; the style's rate changes their times.

    Args:
        voice: Voice of the speaker.
        style: Effect of the emotion on the voice.
        sentence_seed: Seed of the sentence.
        seconds: Length in seconds, at least 1; rounded to whole frames at 25 fps.

    Raises:
        ValueError: If ``seconds`` is below 1.
    """
    if seconds < 1.0:
        raise ValueError(f"seconds={seconds}: a synthetic sentence needs at least 1 second")
    frames = round(seconds * FPS)
    seconds = frames / FPS
    phones, phrases = random_sentence(sentence_seed, seconds, style.rate)
    points = frames * CONTROL_RATE // FPS
    tracks = _Tracks(phones, points, style)
    rng = np.random.default_rng([sentence_seed, 1])
    f0 = _pitch(voice, style, phrases, tracks.accent, rng)
    sound = _synthesise(voice, style, tracks, f0, frames * SAMPLE_RATE // FPS, rng)
    rms = np.sqrt(np.mean(sound.reshape(frames, -1).astype(np.float64) ** 2, axis=1))
    middle = np.arange(frames) * CONTROL_RATE // FPS + CONTROL_RATE // FPS // 2
    slow = gaussian_filter1d(tracks.voiced, 0.12 * CONTROL_RATE) / 0.5
    return SyntheticSpeech(
        sound=sound,
        phones=phones,
        phrases=phrases,
        lips=tracks.lips[middle].astype(np.float32),
        loudness=np.clip((20 * np.log10(rms + 1e-9) + 60) / 50, 0, 1).astype(np.float32),
        f0=np.where(tracks.voiced[middle] > 0.08, f0[middle], 0).astype(np.float32),
        accent=tracks.accent[middle].astype(np.float32),
        energy=slow[middle].astype(np.float32),
    )


class _Tracks:
    """Control tracks of N points: formants (N, 3) Hz, voiced (N,), noise (N, 3), lips (N, 3), accent (N,)."""

    def __init__(self, phones: tuple[Spoken, ...], points: int, style: VoiceStyle) -> None:
        time = (np.arange(points) + 0.5) / CONTROL_RATE
        log_formants = np.tile(np.log(NEUTRAL_FORMANTS), (points, 1))
        voiced, closed, accent = np.zeros(points), np.zeros(points), np.zeros(points)
        noise = np.tile((0.0, 3000.0, 1000.0), (points, 1))
        lips = np.zeros((points, 3))
        # A louder voice opens the mouth wider, by about a third from sad to angry.
        effort = 1.0 + 0.025 * style.energy
        for spoken in phones:
            phone = PHONES[spoken.name]
            span = slice(round(spoken.start * CONTROL_RATE), round(spoken.end * CONTROL_RATE))
            log_formants[span] = np.log(phone.formants)
            voiced[span] = phone.voiced * spoken.loudness
            opening = phone.lips[0] * (0.45 + 0.55 * spoken.loudness) * effort
            lips[span] = (opening, phone.lips[1], phone.lips[2])
            closed[span] = phone.closed
            from_, level = spoken.start if not phone.burst else spoken.end - phone.burst, phone.noise[0]
            burst = slice(round(from_ * CONTROL_RATE), max(span.stop, round(from_ * CONTROL_RATE) + 1))
            noise[burst] = (level * spoken.loudness, *phone.noise[1:])
            if spoken.accent and spoken.name in VOWELS:
                accent += np.exp(-0.5 * ((time - (spoken.start + spoken.end) / 2) / 0.08) ** 2)
        self.formants = np.exp(gaussian_filter1d(log_formants, 0.014 * CONTROL_RATE, axis=0))
        self.voiced = gaussian_filter1d(voiced, 0.010 * CONTROL_RATE)
        noise[:, 0] = gaussian_filter1d(noise[:, 0], 0.005 * CONTROL_RATE)
        self.noise = noise
        self.accent = np.clip(accent, 0, 1)
        smooth = gaussian_filter1d(lips, 0.026 * CONTROL_RATE, axis=0)
        # Smoothing with neighbouring vowels must not open a closure, even in fast speech.
        shut = np.clip(1.6 * gaussian_filter1d(closed, 0.014 * CONTROL_RATE), 0, 1)
        smooth[:, 0] = np.clip(smooth[:, 0] * (1 - shut), 0, 1.15)
        self.lips = smooth


def _pitch(
    voice: Voice,
    style: VoiceStyle,
    phrases: tuple[tuple[float, float], ...],
    accent: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Computes f0 in Hz at every control point: declination over a phrase, accents, final rise, drift and tremor."""
    time = (np.arange(len(accent)) + 0.5) / CONTROL_RATE
    semitones = np.zeros(len(accent))
    for start, end in phrases:
        inside = (time >= start - 0.05) & (time <= end + 0.05)
        semitones[inside] += 1.2 * style.pitch_range * (1 - 2 * (time[inside] - start) / (end - start))
        semitones += style.final_rise * np.exp(-0.5 * ((time - end) / 0.15) ** 2)
    semitones += 3.2 * style.pitch_range * accent
    drift = gaussian_filter1d(rng.standard_normal(len(accent)), 0.12 * CONTROL_RATE, mode="wrap")
    semitones += 0.3 * drift / max(float(drift.std()), 1e-6)
    semitones += style.tremor * np.sin(2 * np.pi * 6.5 * time)
    semitones = gaussian_filter1d(semitones, 0.015 * CONTROL_RATE)
    return voice.f0 * 2 ** ((style.pitch + semitones) / 12)


def _synthesise(
    voice: Voice, style: VoiceStyle, tracks: _Tracks, f0: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Filters pulses and noise in frames and overlap-adds them to (S,) float32."""
    points = len(f0)
    pulses = _pulses(f0, samples)
    white = rng.standard_normal(samples)
    frequencies = np.fft.rfftfreq(NFFT, 1 / SAMPLE_RATE)
    tract = _tract(tracks.formants * voice.formant_scale, voice.formant_scale, frequencies)
    slope = (1 + frequencies / 350) ** (style.brightness - 1.0)
    voiced = _unit_power(tract * slope, f0)
    breath = voice.breath + style.breath
    level, centre, width = tracks.noise.T[:, :, None]
    friction = _unit_power(np.exp(-0.5 * ((frequencies - centre) / width) ** 2))
    loud = tracks.voiced[:, None]
    gain = RMS_OF_A * 10 ** (style.energy / 20)

    window = hann(WINDOW, sym=False) / 2  # Hann windows with four-fold overlap sum to two
    at = np.arange(points)[:, None] * HOP + HOP // 2 + np.arange(WINDOW)
    pad = WINDOW // 2
    source = np.fft.rfft(np.pad(pulses, pad)[at] * window, NFFT)
    noise = np.fft.rfft(np.pad(white, pad)[at] * window, NFFT)
    spectrum = gain * (loud * voiced * ((1 - breath) * source + breath * noise) + 1.3 * level * friction * noise)
    pieces = np.fft.irfft(spectrum, NFFT)
    out = np.zeros(samples + 2 * pad + NFFT)
    for point, piece in enumerate(pieces):
        start = point * HOP + HOP // 2
        out[start : start + NFFT] += piece
    out = out[pad : pad + samples] + ROOM_NOISE * rng.standard_normal(samples)
    return (out * min(1.0, 0.95 / float(np.abs(out).max()))).astype(np.float32)


def _pulses(f0: np.ndarray, samples: int) -> np.ndarray:
    """Makes one pulse per period, split between the two nearest samples, with unit power at any pitch."""
    pitch = np.interp(np.arange(samples), np.arange(len(f0)) * HOP + HOP / 2, f0)
    phase = np.cumsum(pitch) / SAMPLE_RATE
    before = np.flatnonzero(np.diff(np.floor(phase)) > 0)
    step = phase[before + 1] - phase[before]
    late = (np.floor(phase[before + 1]) - phase[before]) / step
    height = np.sqrt(SAMPLE_RATE / pitch[before])
    pulses = np.zeros(samples + 1)
    np.add.at(pulses, before, height * (1 - late))
    np.add.at(pulses, before + 1, height * late)
    return pulses[:samples]


def _tract(formants: np.ndarray, scale: float, frequencies: np.ndarray) -> np.ndarray:
    """Response of a cascade of resonators, gain 1 at 0 Hz: (N, 3) formants in Hz -> (N, len(frequencies)) complex."""
    upper = np.broadcast_to(np.array([3500.0, 4500.0]) * scale, (len(formants), 2))
    s = 2j * np.pi * frequencies
    response = np.ones((len(formants), len(frequencies)), complex)
    for centre, bandwidth in zip(np.hstack([formants, upper]).T, BANDWIDTHS, strict=True):
        pole = (-np.pi * bandwidth + 2j * np.pi * centre)[:, None]
        response *= np.abs(pole) ** 2 / ((s - pole) * (s - pole.conj()))
    return response


def _unit_power(response: np.ndarray, f0: np.ndarray | None = None) -> np.ndarray:
    """Scales every row so that the filter keeps the power of its source; the control tracks alone set the loudness.

    The source is white noise, or pulses at ``f0``, whose few harmonics may miss the formants.
    """
    power = np.abs(response) ** 2
    if f0 is None:
        return response / np.sqrt(power.mean(axis=-1, keepdims=True))
    harmonics = f0[:, None] * np.arange(1, int(SAMPLE_RATE / 2 / f0.min()) + 1) / SAMPLE_RATE * NFFT
    inside = harmonics < NFFT // 2
    place = np.where(inside, harmonics, 0.0)
    low = place.astype(int)
    rest = place - low
    at = np.take_along_axis(power, low, 1) * (1 - rest) + np.take_along_axis(power, low + 1, 1) * rest
    passed = (at * inside).sum(axis=1) / inside.sum(axis=1)
    return response / np.sqrt(passed)[:, None]
