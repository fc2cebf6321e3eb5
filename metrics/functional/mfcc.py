"""Mel-frequency cepstral coefficients as in python_speech_features 0.6, the input of SyncNet.

Rectangular 25 ms windows every 10 ms, 512-point spectrum, 26 triangular mel filters, natural logarithm, orthonormal
DCT, lifter 22, log energy in place of the first coefficient.

Shapes: S samples at 16 kHz, M windows, 13 cepstra.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

SAMPLE_RATE = 16_000
WINDOW, STEP, SPECTRUM = 400, 160, 512
FILTERS, CEPSTRA, LIFTER, PREEMPHASIS = 26, 13, 22, 0.97
_EPS = np.finfo(np.float64).eps


def mel_filterbank() -> np.ndarray:
    """Builds (26, 257) triangular filters between 0 and 8 kHz, with corners rounded down to spectrum bins."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    corners = np.floor((SPECTRUM + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(SPECTRUM // 2 + 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (bins - low) / np.maximum(peak - low, 1)
    falling = (high - bins) / np.maximum(high - peak, 1)
    return np.where((bins >= low) & (bins < peak), rising, 0) + np.where((bins >= peak) & (bins < high), falling, 0)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Computes the coefficients of a sound.

    Args:
        samples: (S,) mono samples at 16 kHz, int16 or floats in the range of int16.

    Returns:
        (M, 13) float64; M = 1 up to 400 samples, else 1 + ceil((S - 400) / 160). The last window is zero-padded.

    Raises:
        ValueError: If there are no samples, or several channels.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"MFCC: expected mono samples (S,), found shape {samples.shape}")
    signal = samples.astype(np.float64)
    signal = np.append(signal[0], signal[1:] - PREEMPHASIS * signal[:-1])
    count = 1 if len(signal) <= WINDOW else 1 + -(-(len(signal) - WINDOW) // STEP)
    signal = np.pad(signal, (0, max((count - 1) * STEP + WINDOW - len(signal), 0)))
    windows = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::STEP][:count]
    power = np.abs(np.fft.rfft(windows, SPECTRUM)) ** 2 / SPECTRUM
    energy, bands = power.sum(axis=1), power @ mel_filterbank().T
    cepstra = dct(np.log(np.where(bands == 0, _EPS, bands)), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / LIFTER)
    cepstra[:, 0] = np.log(np.where(energy == 0, _EPS, energy))
    return cepstra
