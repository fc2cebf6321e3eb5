"""Measures of a clip's sound: level, speech, digital silence and steady tones.

Speech is found by level: 10-ms blocks that rise above the quiet parts of the same clip. A sound of constant level has
no such blocks. Shapes: S samples at 16 kHz in [-1, 1], B blocks of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, binary_opening, uniform_filter1d
from scipy.signal import butter, sosfiltfilt, stft

from encoders.protocols import SAMPLE_RATE
from preparation.speaker_crop import longest_run

BLOCK = SAMPLE_RATE // 100  # samples of a block
BAND = (200.0, 3800.0)  # Hz; speech without hum and hiss
LOWEST = -70.0  # dBFS; a floor below counts as this
RANGE = 8.0  # dB; smallest distance of loud and quiet parts of a sound with speech
RISE = 0.35  # a block is speech above the floor by this share of that distance
PAUSE = 30  # blocks; shorter pauses belong to the speech around them
BURST = 5  # blocks; shorter sounds are clicks
ZERO = 10 ** (-90 / 20)  # largest sample of digital silence; lossy codecs return zeros as noise far below
TONE_RUN = 20  # spectra of 16 ms; a partial that holds its pitch that long is a steady tone
TONE_BAND = (100.0, 4000.0)  # Hz


@dataclass(frozen=True)
class SoundSignals:
    """Blocks of a whole clip.

    Attributes:
        samples: (S,) samples.
        level: (B,) level in the band of speech, dBFS.
        speech: (B,) bool.
        zero: (B,) bool, digital silence.
        tone: (B,) bool, a steady tone.
        loud: (B,) bool, where tones are looked for.
    """

    samples: np.ndarray
    level: np.ndarray
    speech: np.ndarray
    zero: np.ndarray
    tone: np.ndarray
    loud: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray) -> SoundSignals:
        """Measures (S,) float32 samples at 16 kHz."""
        blocks = len(samples) // BLOCK
        whole = samples[: blocks * BLOCK]
        zero = np.abs(whole).reshape(blocks, BLOCK).max(1) < ZERO if blocks else np.zeros(0, bool)
        if blocks < 50:  # half a second: nothing to compare with
            nothing = np.zeros(blocks, bool)
            return cls(samples, np.full(blocks, LOWEST), nothing, zero, nothing, nothing)
        band = sosfiltfilt(butter(2, BAND, "band", fs=SAMPLE_RATE, output="sos"), whole.astype(np.float64))
        power = uniform_filter1d((band.reshape(blocks, BLOCK) ** 2).mean(1), 5)
        level = np.maximum(10 * np.log10(np.maximum(power, 1e-12)), LOWEST)
        real = level[~zero] if (~zero).any() else level
        floor, peak = np.percentile(real, [10, 95])
        speech = np.zeros(blocks, bool)
        if peak - floor >= RANGE:
            speech = level > floor + RISE * (peak - floor)
            speech = binary_closing(np.pad(speech, PAUSE), np.ones(PAUSE))[PAUSE:-PAUSE]
            speech = binary_opening(speech, np.ones(BURST)) & ~zero
        loud = (level > peak - 25) & ~zero
        return cls(samples, level, speech, zero, _steady(whole, blocks), loud)

    def measures(self, start: float, end: float) -> dict[str, float | None]:
        """Columns of the span from ``start`` to ``end``, seconds; null for an empty one."""
        begin, stop = round(start * 100), round(end * 100)
        level, zero = self.level[begin:stop], self.zero[begin:stop]
        if not len(level):
            return dict.fromkeys(("loudness", "loudest", "speech", "level_range", "silent", "silence_s", "steady_tone"))
        samples = self.samples[begin * BLOCK : stop * BLOCK].astype(np.float64)
        power = (samples[: len(level) * BLOCK].reshape(len(level), BLOCK) ** 2).mean(1)
        speech, loud = self.speech[begin:stop], self.loud[begin:stop]
        missing = max(0, stop - begin - len(level))  # the sound ends before the span
        span = min(100, len(power))
        seconds = np.convolve(power, np.ones(span) / span, "valid")
        low, high = np.percentile(level, [10, 95])
        return {
            "loudness": _decibel(power[speech].mean() if speech.any() else power.mean()),
            "loudest": _decibel(seconds.max()),
            "speech": float(speech.sum() / (len(speech) + missing)),
            "level_range": float(high - low),
            "silent": float((zero.sum() + missing) / (len(zero) + missing)),
            "silence_s": longest_run(np.concatenate([zero, np.ones(missing, bool)])) / 100,
            "steady_tone": float(self.tone[begin:stop][loud].mean()) if loud.any() else None,
        }


def _decibel(power: float) -> float:
    return float(max(10 * np.log10(power), -120.0)) if power > 0 else -120.0


def _steady(samples: np.ndarray, blocks: int) -> np.ndarray:
    """(B,) whether the strongest partial stays within a bin of 16 Hz for 0.3 s around each block."""
    frequencies, times, spectrum = stft(samples, SAMPLE_RATE, nperseg=1024, noverlap=768, padded=False)
    inside = (frequencies >= TONE_BAND[0]) & (frequencies <= TONE_BAND[1])
    strongest = np.abs(spectrum[inside]).argmax(0)
    same = np.concatenate([[False], np.abs(np.diff(strongest)) <= 1])
    steady = np.zeros(len(same), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        # A slow glide also moves by one bin at a time; a tone comes back to where it was.
        if last - first >= TONE_RUN and np.ptp(strongest[first:last]) <= 2:
            steady[first:last] = True
    return steady[np.searchsorted(times, np.arange(blocks) / 100).clip(0, len(steady) - 1)]
