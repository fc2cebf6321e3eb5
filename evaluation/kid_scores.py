"""KID: unbiased squared maximum mean discrepancy of FID's features; a companion of FID for few frames.

Protocol: Binkowski et al., ICLR 2018: kernel (x y / D + 1)^3 on pytorch-fid's features of all frames,
pooled. Instead of the mean over random subsets it is the estimate from all frames, which has the same expectation and
less variance. Not multiplied by 1000. May be negative for equal distributions.

Shapes: C clips, N samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import FIDConfig
from evaluation.aligned_clips import Clips
from evaluation.fid_features import FIDFeatures
from evaluation.frechet_scores import FAILURES, DistributionMetric, Stores, features_of
from evaluation.networks import NotComputed
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Column, ConfidenceInterval, Value
from metrics.functional.bootstrap import Z, resampled


class KernelDistance(DistributionMetric):
    """KID from the cached features of FID; lower is better.

    Raises:
        NotComputed: If FID's network is missing.
    """

    settings = "fid"
    columns = (Column("kid", "KID", "lower"),)

    def __init__(self, config: FIDConfig | None, device: torch.device) -> None:
        super().__init__(FIDFeatures(config or FIDConfig(), device))
        self.device = device

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Callable[[int], object]
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes the value; see ``Metric``.

        Raises:
            NotComputed: If a side has fewer than two frames.
        """
        sides: tuple[list[Tensor], list[Tensor]] = [], []
        missing: list[Missing] = []
        good = []
        for clip in clips:
            pair = []
            for side, store in zip((clip.reference, clip.generated), stores, strict=True):
                try:
                    features = features_of(self.extractor, clip, side, store)["features"]
                    pair.append(torch.from_numpy(features).to(self.device).double())
                except FAILURES as error:
                    missing.append(Missing(clip.name, side.name, "kid", str(error)))
                progress(side.frames)
            if len(pair) == 2:
                good.append(clip)
                for rows, tensor in zip(sides, pair, strict=True):
                    rows.append(tensor)
        clips = good
        counts = [sum(map(len, rows)) for rows in sides]
        if min(counts) < 2:
            raise NotComputed(f"needs at least two frames on each side, found {min(counts)}", missing)
        sums = KernelSums(*sides)
        value = float(sums.values(np.ones((1, len(clips)), int))[0])
        extractor = self.extractor
        resamples, seed = bootstrap
        interval = None
        if resamples and len(clips) >= 3:
            spread = float(sums.values(resampled(len(clips), resamples, seed)).std(ddof=1))
            interval = ConfidenceInterval(
                value - Z * spread, value + Z * spread, resamples, seed, "pairs of clips", "the distance"
            )
        found = Value(
            name="kid",
            title=extractor.title.replace("FID", "KID"),
            value=value,
            better="lower",
            official=extractor.sources[0].official,
            sources=extractor.sources,
            protocol={**extractor.protocol, "name": "KID of all frames", "kernel": "(x y / D + 1)^3", "unbiased": True},
            clips=len(clips),
            expected=expected,
            samples={"reference": counts[0], "generated": counts[1]},
            unit="frames",
            interval=interval,
            warnings=tuple(source.note for source in extractor.sources if source.note),
        )
        used = {clip.name: {"reference": len(x), "generated": len(y)} for clip, x, y in zip(clips, *sides, strict=True)}
        return [found], missing, used  # type: ignore[return-value]

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> dict[str, dict[str, Any]]:
        """Computes the value over one window of all clips; see ``Metric``."""
        pieces = [
            replace(clip, generated=clip.generated.part(first, length), reference=clip.reference.part(first, length))
            for clip in clips
        ]
        try:
            (value,), _, _ = self.values(pieces, len(pieces), stores, (0, 0), lambda _: None)
        except NotComputed as error:
            return {"kid": {"value": None, "n": 0, "reason": str(error)}}
        return {"kid": {"value": value.value, "n": value.clips}}


class KernelSums:
    """Sums of the kernel over all pairs of clips, from which every resample follows.

    Args:
        reference: (N_c, D) features of each clip.
        generated: (M_c, D) features of the same clips.
    """

    def __init__(self, reference: list[Tensor], generated: list[Tensor]) -> None:
        sides = reference, generated
        self._sizes = [np.array([len(rows) for rows in side], float) for side in sides]
        self._own = [_sums(side, side, same=True) for side in sides]
        self._cross = _sums(reference, generated, same=False)

    def values(self, times: np.ndarray) -> np.ndarray:
        """Computes the unbiased estimates of resamples of the clips.

        Args:
            times: (R, C) how often each clip is used. Copies of a clip count as other samples of it.
        """
        total = -2 * np.einsum("ra,rb,ab->r", times, times, self._cross)
        counts = [times @ sizes for sizes in self._sizes]
        total = total / (counts[0] * counts[1])
        for sizes, own, count in zip(self._sizes, self._own, counts, strict=True):
            within = np.diag(own)
            pairs = np.einsum("ra,rb,ab->r", times, times, own - np.diag(within))
            copies = within * sizes / np.maximum(sizes - 1, 1)
            total += (pairs + times @ within + (times * (times - 1)) @ copies) / (count * (count - 1))
        return np.asarray(total)


def kernel_of(one: Tensor, two: Tensor) -> Tensor:
    """Computes (x y / D + 1)^3 of (N, D) and (M, D) samples as (N, M), as torchmetrics' ``poly_kernel``."""
    return (one @ two.T * (1 / one.shape[1]) + 1) ** 3


def _sums(one: list[Tensor], two: list[Tensor], same: bool) -> np.ndarray:
    """Sums the kernel over each pair of clips, (C, C); within a clip of one side without a sample and itself."""
    everything = torch.cat(two)
    owner = torch.arange(len(two), device=everything.device).repeat_interleave(
        torch.tensor([len(rows) for rows in two], device=everything.device)
    )
    rows = []
    for place, part in enumerate(one):
        kernel = kernel_of(part, everything)
        sums = kernel.sum(dim=0).new_zeros(len(two)).index_add_(0, owner, kernel.sum(dim=0))
        if same:
            sums[place] -= kernel_of(part, part).diagonal().sum()
        rows.append(sums)
    return torch.stack(rows).cpu().numpy()
