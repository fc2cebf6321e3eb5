"""E-FID as a torchmetrics Metric: Fréchet distance (``metrics.functional.frechet``) of expression coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import FrechetMetric
from metrics.functional.efid import align_face, ddfa_crop, ddfa_roi
from metrics.networks.deep3d import Deep3DFace
from metrics.networks.proxy import ProxyExpression
from metrics.networks.three_ddfa import ThreeDDFA


class ExpressionFID(FrechetMetric):
    """E-FID over all frames with a face, pooled over all videos.

    Protocol: five landmarks, Deep3DFaceRecon's alignment and network, 64 expression coefficients, covariance divided by
    N - 1, float64. No square root, and no division by 64. Unit: squared standard deviations of the 3DMM's expressions;
    lower is better, 0 is equal. The pooled value is not the mean of per-video values. Source: EMO (Tian et al., 2024)
    for the definition; Deep3DFaceRecon_pytorch for the coefficients. A proxy network (3DDFA_V2 or a small trained
    network) has other coefficients, so its values are comparable only with each other.

    Args:
        network: ``Deep3DFace``, or a proxy: ``ThreeDDFA`` or ``ProxyExpression``.

    Attributes:
        official: Whether the network is the official one, so that the value is E-FID.

    Examples:
        >>> from metrics.efid import ExpressionFID
        >>> from metrics.networks.deep3d import Deep3DFace
        >>> metric = ExpressionFID(Deep3DFace("epoch_20.pth"))  # doctest: +SKIP
        >>> metric.update(frames, points, real=True); metric.update(fakes, fake_points, real=False)  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
    """

    seen: Tensor

    def __init__(self, network: Deep3DFace | ThreeDDFA | ProxyExpression, **kwargs: Any) -> None:
        super().__init__(network.dimensions, convention="pytorch-fid", **kwargs)
        self.network = network
        self.official = isinstance(network, Deep3DFace)
        kind = "3DDFA_V2" if isinstance(network, ThreeDDFA) else "small trained network"
        self.name = "E-FID" if self.official else f"E-FID proxy ({kind}, {network.dimensions} coefficients)"
        self.add_state("seen", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, frames: Sequence[np.ndarray], landmarks: Sequence[np.ndarray | None], real: bool) -> None:  # type: ignore[override]
        """Adds frames of one side. Frames without a face are counted but not used.

        Args:
            frames: (H, W, 3) uint8 RGB images.
            landmarks: (5, 2) or (68, 2) landmarks of each frame in pixels, y down; None where no face was found. A
                proxy needs landmarks of the whole face (68, or MediaPipe's 478).
            real: Whether the frames are real (reference) or generated.

        Raises:
            ValueError: If landmarks cannot be used for the alignment.
        """
        pairs = list(zip(frames, landmarks, strict=True))
        faces = [self._crop(frame, points) for frame, points in pairs if points is not None]
        self.seen = self.seen + self.seen.new_tensor([len(pairs), 0] if real else [0, len(pairs)])
        if faces:
            batch = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).to(self.device)
            self.add(self.network(batch), real)

    def detection_rate(self, real: bool) -> float:
        """Returns the share of the frames of one side with a face."""
        seen = int(self.seen[0 if real else 1])
        return self.moments(real).samples / seen if seen else float("nan")

    def _crop(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        if isinstance(self.network, Deep3DFace):
            return align_face(frame, points).image
        if len(points) < 68:
            raise ValueError(f"{self.name}: expected landmarks of the whole face (68 or more), found {len(points)}")
        return ddfa_crop(frame, ddfa_roi(points), self.network.input_size)
