"""PSNR and SSIM of paired frames, by torchmetrics; for videos that should equal their counterpart pixel by pixel.

Protocol: RGB in [0, 1]. PSNR from the mean squared error of each frame; SSIM (Wang et al., 2004) with a Gaussian window
of 11 pixels and sigma 1.5 on each channel. Means over frames, then clips. Pictures of unequal size are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from evaluation.aligned_clips import AlignedClip
from evaluation.cache import Arrays
from evaluation.extractor import UnusableVideo, as_images
from evaluation.networks import Source
from evaluation.paired_scores import PairedMetric, Stores
from evaluation.results import Column

BATCH = 16
LOSSLESS = 100.0  # PSNR of equal frames, decibel; it would be infinite


class PSNR(PairedMetric):
    """Peak signal-to-noise ratio, decibel; higher is better. Equal frames count as 100."""

    columns = (Column("psnr", "PSNR", "higher", high=LOSSLESS),)

    def __init__(self, config: None, device: torch.device) -> None:
        self.device = device
        self.sources = (Source("torchmetrics", "none", "", official=True),)
        self.protocol = {
            "name": "torchmetrics",
            "range": "RGB in [0, 1]",
            "mean": "frames, clips",
            "equal frames": LOSSLESS,
            "window": "Gaussian, 11 pixels, sigma 1.5 (SSIM)",
        }

    def score(self, clip: AlignedClip, stores: Stores) -> tuple[float, int]:
        """Computes the mean over the frames of one pair; see ``PairedMetric``."""
        key = {"what": "pictures", "sides": [clip.reference.key, clip.generated.key], **self.protocol}
        found = stores[1].fetch(key, lambda: self._compare(clip))[self.columns[0].metric]
        return float(found.mean()), len(found)

    def _compare(self, clip: AlignedClip) -> Arrays:
        """Computes (F,) PSNR and SSIM."""
        from torchmetrics.functional import image  # late: it takes seconds to import

        psnr: list[Tensor] = []
        ssim: list[Tensor] = []
        for real, made in zip(_batches(clip.reference.reader()), _batches(clip.generated.reader()), strict=True):
            if real.shape != made.shape:
                sizes = " and ".join(f"{side.shape[-1]} x {side.shape[-2]}" for side in (real, made))
                raise UnusableVideo(f"the pictures have {sizes} pixels, PSNR and SSIM need equal sizes")
            # float64: in float32 the variances of flat pictures cancel, and equal frames have an SSIM below 1.
            one, two = real.to(self.device).double() / 255, made.to(self.device).double() / 255
            noise = image.peak_signal_noise_ratio(two, one, data_range=1.0, reduction="none", dim=(1, 2, 3))
            psnr.append(noise.clamp(max=LOSSLESS).cpu())
            alike = image.structural_similarity_index_measure(two, one, data_range=1.0, reduction="none")
            assert isinstance(alike, Tensor)
            ssim.append(alike.cpu())
        return {"psnr": torch.cat(psnr).numpy(), "ssim": torch.cat(ssim).numpy()}


class SSIM(PSNR):
    """Structural similarity in [-1, 1]; higher is better."""

    columns = (Column("ssim", "SSIM", "higher", low=-1.0, high=1.0, digits=3),)


def _batches(frames: Iterable[np.ndarray]) -> Iterator[Tensor]:
    rest = iter(frames)
    while batch := list(islice(rest, BATCH)):
        yield as_images(batch)
