"""AED and APD: mean distance of expression and of pose from the coefficients that E-FID already has.

Source: PIRender (Ren et al., ICCV 2021) for the metrics; OTAvatar's issues 11 and 27 for the implementation: L1
distance of Deep3DFaceRecon's 64 expression coefficients, and of its three angles and three translations, with the
weights of the original release. Means over coefficients, then frames, then clips. Both need pairs that show the same
motion.

Shapes: N frames with a face on both sides, D coefficients.
"""

from __future__ import annotations

import numpy as np
import torch

from configs.evaluation import EFIDConfig
from evaluation.aligned_clips import AlignedClip, Clips
from evaluation.efid_features import EFIDFeatures
from evaluation.extractor import UnusableVideo
from evaluation.frechet_scores import Collectors, DistributionMetric
from evaluation.networks import NotComputed
from evaluation.one_pass import run_alone
from evaluation.paired_scores import PairedMetric, Stores
from evaluation.results import Column
from metrics.networks.deep3d import EXPRESSION

POSE = np.r_[224:227, 254:257]  # angles and translation among Deep3DFaceRecon's 257 coefficients


class ExpressionDistance(PairedMetric):
    """AED, lower is better. Unit: standard deviations of the 3DMM's expressions.

    Raises:
        NotComputed: If a network is missing, or E-FID's network has no such coefficients.
    """

    settings = "efid"
    columns = (Column("aed", "AED", "lower", low=0.0, digits=3),)
    coefficients: slice | np.ndarray = EXPRESSION

    def __init__(self, config: EFIDConfig | None, device: torch.device) -> None:
        config = config or EFIDConfig()
        if config.network != "deep3d":
            raise NotComputed(f"needs efid.network=deep3d, found {config.network}: it has all coefficients")
        self.extractor = EFIDFeatures(config, device)
        self.sources = self.extractor.sources
        self.protocol = {
            "name": "mean absolute difference of coefficients at equal times (OTAvatar)",
            "coefficients": np.arange(257)[self.coefficients].tolist(),
            "landmarks": self.extractor.landmarks.name,
            "mean": "coefficients, frames with a face on both sides, clips",
        }

    def collectors(self, clips: Clips) -> Collectors:
        """Returns E-FID's collectors, whose features both metrics share."""
        return DistributionMetric(self.extractor).collectors(clips)

    def score(self, clip: AlignedClip, stores: Stores) -> tuple[float, int]:
        """Computes the mean distance of one pair; see ``PairedMetric``."""
        rows = []
        for side, store in zip((clip.reference, clip.generated), stores, strict=True):
            collector = self.extractor.collector(side)
            arrays = store.fetch(collector.key, lambda one=collector, part=side: run_alone(one, part))  # type: ignore[misc]
            places = (arrays["frames"] - side.start).tolist()
            rows.append(dict(zip(places, arrays["features"], strict=True)))
        common = [frame for frame in rows[0] if frame in rows[1] and 0 <= frame < clip.generated.frames]
        if not common:
            raise UnusableVideo("no frame has a face on both sides")
        apart = [np.abs(rows[0][frame] - rows[1][frame])[self.coefficients].mean() for frame in common]
        return float(np.mean(apart)), len(common)


class PoseDistance(ExpressionDistance):
    """APD, lower is better. Unit: radians and the 3DMM's units of length, averaged."""

    columns = (Column("apd", "APD", "lower", low=0.0, digits=3),)
    coefficients = POSE
