"""KID: unbiased squared maximum mean discrepancy of FID's features; a companion of FID for few frames.

Protocol: Binkowski et al., ICLR 2018: kernel (x y / D + 1)^3 on pytorch-fid's features of all frames, pooled. It is the
estimate from all frames instead of the mean over random subsets, which has the same expectation and more variance. Not
multiplied by 1000. May be negative for equal distributions.

Shapes: C clips, N samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import FIDConfig
from evaluation.aligned_clips import Clips
from evaluation.fid_features import FIDFeatures
from evaluation.frechet_scores import DistributionMetric, Stores
from evaluation.networks import NotComputed
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Column, ConfidenceInterval, Value
from metrics.functional.bootstrap import Z, resampled

CONVENTION = "kernel"  # in results files, in place of a convention of Fréchet distances


class KernelDistance(DistributionMetric):
    """KID from the cached features of FID; lower is better.

    Raises:
        NotComputed: If FID's network is missing.
    """

    settings = "fid"
    columns = (Column("kid", "KID", "lower", digits=4),)

    def __init__(self, config: FIDConfig | None, device: torch.device) -> None:
        super().__init__(FIDFeatures(config or FIDConfig(), device))
        self.name = "kid"
        self.device = device

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Callable[[int], object]
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes the value; see ``Metric``.

        Raises:
            NotComputed: If a side has fewer than two frames.
        """
        good, sides, missing, counted = self.read(clips, stores, progress)
        if (fewest := min(side.count for side in sides)) < 2:
            raise NotComputed(f"needs at least two frames on each side, found {fewest}", missing)
        sums = KernelSums(sides[0].features, sides[1].features, self.device)
        value = float(sums.distances(np.ones((1, len(good)), int))[0])
        extractor = self.extractor
        resamples, seed = bootstrap
        interval = None
        if resamples and len(good) >= 3:
            spread = float(sums.distances(resampled(len(good), resamples, seed)).std(ddof=1))
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
            clips=len(good),
            expected=expected,
            samples={"reference": sides[0].count, "generated": sides[1].count},
            unit="frames",
            interval=interval,
            warnings=tuple(source.note for source in extractor.sources if source.note),
            extra={"convention": CONVENTION},
        )
        return [found], missing, counted


class KernelSums:
    """Sums of the kernel over all pairs of clips, from which every resample follows.

    Args:
        reference: (N_c, D) features of each clip.
        generated: (M_c, D) features of the same clips.
        device: Device of the computation.
    """

    def __init__(
        self,
        reference: Sequence[np.ndarray | Tensor],
        generated: Sequence[np.ndarray | Tensor],
        device: torch.device | str = "cpu",
    ) -> None:
        sides = [[torch.as_tensor(rows).to(device).double() for rows in side] for side in (reference, generated)]
        self._sizes = [np.array([len(rows) for rows in side], float) for side in sides]
        self._own = [_sums(side, side, same=True) for side in sides]
        self._cross = _sums(sides[0], sides[1], same=False)

    def distances(self, times: np.ndarray) -> np.ndarray:
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

    draws = distances  # as of ``FrechetBootstrap``


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
