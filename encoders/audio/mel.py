"""Log-mel audio features: need no download and have the same values on every machine.

A video frame of 40 ms has four sub-frames of 10 ms, each with a 25 ms Hann window around its centre. The features of
frame i are therefore centred on the middle of [i, i + 1) / 25 s. Powers are relative to a full-scale sine.

Shapes: S samples, F = ceil(S * 25 / 16000) video frames, L = 4 sub-frames, D = 80 mel bands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.protocols import FPS, SAMPLE_RATE, Identity

SUBFRAMES = 4
BANDS = 80
HOP = SAMPLE_RATE // FPS // SUBFRAMES
WINDOW = 400
FFT = 1024  # bins of 15.6 Hz, so that the lowest band (45 Hz wide) is not empty
LOWEST, HIGHEST = 50.0, 8000.0
FLOOR = 1e-8  # 80 dB below a full-scale sine, less than the noise of recordings
# Mean and standard deviation of log10 power in recorded speech. Fixed: statistics of a clip would remove its loudness.
CENTRE, SPREAD = -5.3, 1.6
FRAMES_AT_ONCE = 1500  # one minute; bounds the memory for long audio


def mel_filters(bands: int = BANDS, fft: int = FFT) -> Tensor:
    """Builds triangular filters of unit height, equally spaced on the mel scale m = 2595 log10(1 + f / 700).

    Args:
        bands: Number of filters between ``LOWEST`` and ``HIGHEST`` Hz.
        fft: Length of the Fourier transform.

    Returns:
        (fft / 2 + 1, bands) float32 weights in [0, 1].
    """
    ends = 2595 * torch.log10(1 + torch.tensor([LOWEST, HIGHEST], dtype=torch.float64) / 700)
    corners = 700 * (10 ** (torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


class MelEncoder:
    """``AudioEncoder`` of (F, 4, 80) log-mel features with about zero mean and unit variance on speech.

    Args:
        device: Device of the transform; features are returned on the CPU.
    """

    layers = SUBFRAMES
    width = BANDS

    @staticmethod
    def announced() -> dict[str, int]:
        """Sizes of the features, without building an encoder."""
        return {"layers": SUBFRAMES, "width": BANDS}

    def __init__(self, device: str = "cpu") -> None:
        self.identity = Identity("mel", {"bands": BANDS, "subframes": SUBFRAMES, "window": WINDOW, "fft": FFT})
        self.device = torch.device(device)
        self.filters = mel_filters().to(self.device)
        self.window = torch.hann_window(WINDOW, periodic=False, device=self.device)  # symmetric about its centre
        self.full_scale = (self.window.sum() / 2) ** 2

    @torch.inference_mode()
    def __call__(self, samples: Tensor) -> Tensor:
        """Computes the features of a clip.

        Args:
            samples: (S,) float32 mono at 16 kHz in [-1, 1], S > 0.

        Returns:
            (F, 4, 80) float32, F = ceil(S / 640).

        Raises:
            ValueError: If ``samples`` is empty or not one-dimensional.
        """
        frames = frame_count(samples)
        hops = frames * SUBFRAMES
        before = FFT // 2 - HOP // 2  # centres the first window on the first sub-frame
        after = (hops - 1) * HOP + FFT - before - len(samples)
        padded = torch.nn.functional.pad(samples.to(self.device, torch.float32), (before, after))
        parts = []
        for first in range(0, hops, FRAMES_AT_ONCE * SUBFRAMES):
            count = min(FRAMES_AT_ONCE * SUBFRAMES, hops - first)
            part = padded[first * HOP : (first + count - 1) * HOP + FFT]
            spectrum = torch.stft(part, FFT, HOP, WINDOW, self.window, center=False, return_complex=True)
            power = spectrum.abs().square() / self.full_scale
            parts.append((power.T @ self.filters).clamp(min=FLOOR).log10().cpu())
        return ((torch.cat(parts) - CENTRE) / SPREAD).unflatten(0, (frames, SUBFRAMES))


def frame_count(samples: Tensor) -> int:
    """Returns the number of video frames of (S,) samples at 16 kHz: ceil(S * 25 / 16000).

    Raises:
        ValueError: If ``samples`` is empty or not one-dimensional.
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"audio must be (S,) mono samples at 16 kHz with S > 0, found shape {tuple(samples.shape)}")
    return -(-len(samples) * FPS // SAMPLE_RATE)
