"""Fréchet distance of two feature sets as a torchmetrics Metric with bounded memory; base of FID, FVD and E-FID.

The state is summed over ranks, so the value depends on neither the number of ranks nor the batch size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.functional.frechet import (
    Moments,
    add_features,
    ddof_of,
    distance_between,
    gaussian,
    merge_moments,
    no_moments,
    warn_if_rank_deficient,
)

SIDES = ("real", "fake")


class FrechetMetric(Metric):
    """Fréchet distance between real and generated ("fake") features.

    Protocol: float64 features, covariance by ``convention``, exact matrix square root (no iteration). Unit: squared
    feature units; lower is better, 0 is equal. Source: Dowson and Landau, 1982; Heusel et al., 2017.

    Args:
        dimensions: Number of dimensions D of the features.
        convention: ``pytorch-fid`` (covariance divided by N - 1), ``stylegan-v`` (divided by N) or ``tfgan`` (divided
            by N - 1; no square root of singular values below 1e-10).

    Examples:
        >>> import torch
        >>> from metrics.frechet import FrechetMetric
        >>> metric = FrechetMetric(dimensions=8)
        >>> metric.add(torch.randn(100, 8), real=True); metric.add(torch.randn(100, 8) + 1, real=False)
        >>> float(metric.compute()) > 4
        True

    Raises:
        ValueError: In ``compute``, if a side has fewer than two samples; in ``update``, if values are not finite.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    name = "Fréchet distance"

    real_folded: Tensor
    real_total: Tensor
    real_outer: Tensor
    fake_folded: Tensor
    fake_total: Tensor
    fake_outer: Tensor

    def __init__(self, dimensions: int, convention: str = "pytorch-fid", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dimensions = dimensions
        self.convention = convention
        self.ddof = ddof_of(convention)
        empty = no_moments(dimensions)
        for side in SIDES:
            for field in ("folded", "total", "outer"):
                self.add_state(f"{side}_{field}", getattr(empty, field), dist_reduce_fx="sum")
            self.add_state(f"{side}_kept", [], dist_reduce_fx="cat")
        self._fill_kept()

    def update(self, features: Tensor, real: bool) -> None:
        """Adds (N, D) features to the real or the fake side."""
        self.add(features, real)

    def add(self, features: Tensor, real: bool) -> None:
        """Adds (N, D) features that are already extracted; subclasses override ``update`` but not this method."""
        side = "real" if real else "fake"
        self._store(side, add_features(self.moments(real), features.to(self.device)))
        self._computed = None
        self._update_count = max(self._update_count, 1)  # otherwise torchmetrics warns about a missing ``update``

    def merge(self, moments: Moments, real: bool) -> None:
        """Adds the moments of a feature set, e.g. from a cache, to the real or the fake side."""
        side = "real" if real else "fake"
        here = Moments._make(x.to(self.device) for x in moments)
        self._store(side, merge_moments(self.moments(real), here))
        self._computed = None
        self._update_count = max(self._update_count, 1)

    def moments(self, real: bool) -> Moments:
        """Returns the moments of one side."""
        side = "real" if real else "fake"
        kept = dim_zero_cat(getattr(self, f"{side}_kept"))
        folded, total, outer = (getattr(self, f"{side}_{field}") for field in ("folded", "total", "outer"))
        return Moments(folded, total, outer, kept)

    def compute(self) -> Tensor:
        """Returns the distance as a () float64 tensor, over the features of all ranks."""
        sides = []
        for real in (True, False):
            moments = self.moments(real)
            try:
                sides.append(gaussian(moments, self.ddof))
            except ValueError as error:
                raise ValueError(f"{self.name}, {'real' if real else 'fake'} side: {error}") from None
            warn_if_rank_deficient(f"{self.name}, {'real' if real else 'fake'} side", moments.samples, self.dimensions)
        return distance_between(sides[0], sides[1], self.convention)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plots one or several values with torchmetrics; needs matplotlib.

        Args:
            val: Values of ``compute``; None for the current one.
            ax: Matplotlib axis; None for a new figure.

        Returns:
            Figure and axis.
        """
        return self._plot(val, ax)

    def reset(self) -> None:
        """Clears both sides."""
        super().reset()
        self._fill_kept()

    def _store(self, side: str, moments: Moments) -> None:
        for field, value in moments._asdict().items():
            setattr(self, f"{side}_{field}", [value] if field == "kept" else value)

    def _fill_kept(self) -> None:
        # Never an empty list: the ranks gather these states, and a rank without samples contributes a (0, D) tensor.
        for side in SIDES:
            setattr(self, f"{side}_kept", [torch.zeros(0, self.dimensions, dtype=torch.float64, device=self.device)])
