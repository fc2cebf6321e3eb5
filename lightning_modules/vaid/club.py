"""CLUB: an upper bound of mutual information, trained and minimised in one backward pass.

Cheng et al. 2020 (arXiv 2006.12013); EmotiveTalk Eq. 8. With q(y|x) = N(mu(x), diag sigma(x)^2) and weights w that sum
to 1,

    CLUB = sum_i w_i log q(y_i|x_i) - sum_i w_i sum_j w_j log q(y_j|x_i)

is an upper bound of I(x; y) if q is close to the true conditional. With an untrained q it is not a bound and can be
negative. The estimate is never clamped; q's negative log-likelihood is logged with it.

Shapes: n pairs, d_x and d_y widths.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

# Clamped, since a tanh would keep the estimate below the true information if x and y are nearly equal.
LOG_VARIANCE = (-8.0, 4.0)


class GaussianConditional(nn.Module):
    """q(y|x): a diagonal Gaussian whose mean and log-variance are MLPs of x, computed in float32.

    Args:
        x_width: d_x.
        y_width: d_y.
        hidden: Width of the hidden layer.
    """

    def __init__(self, x_width: int, y_width: int, hidden: int = 256) -> None:
        super().__init__()
        self.mean = _network(x_width, y_width, hidden)
        self.log_variance = _network(x_width, y_width, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, d_x) -> mean (n, d_y) and log-variance (n, d_y) in [-8, 4], both float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            return self.mean(x), self.log_variance(x).clamp(*LOG_VARIANCE)


class ClubTerms(NamedTuple):
    """Scalar terms of one batch of pairs.

    Attributes:
        estimate: CLUB in nats; differentiable in x and y, not in q.
        likelihood_loss: Mean negative log-likelihood of q in nats; differentiable in q, not in x and y.
    """

    estimate: Tensor
    likelihood_loss: Tensor


def club_terms(q: GaussianConditional, x: Tensor, y: Tensor, weight: Tensor) -> ClubTerms:
    """Computes both terms of a step. Their gradients are disjoint: one backward pass equals two alternating ones.

    Args:
        q: Conditional q(y|x).
        x: (n, d_x) samples.
        y: (n, d_y) samples.
        weight: (n,) non-negative weights, normalised by their sum, which must not be 0. Pairs of weight 0, e.g.
            padding, affect neither term.
    """
    frozen = {name: parameter.detach() for name, parameter in q.named_parameters()}
    mean, log_variance = functional_call(q, frozen, (x,))
    learning_mean, learning_log_variance = q(x.detach())
    return ClubTerms(
        estimate=club(mean, log_variance, y, weight),
        likelihood_loss=negative_log_likelihood(learning_mean, learning_log_variance, y.detach(), weight),
    )


def club(mean: Tensor, log_variance: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Scalar CLUB estimate over all n^2 pairs, in nats.

    Uses sum_j w_j (mu - y_j)^2 = (mu - E y)^2 + Var y: the double sum costs O(n d_y) and needs no random pairs. The
    log-variances cancel.

    Args:
        mean: (n, d_y) means of q(y|x_i).
        log_variance: (n, d_y) log-variances of q(y|x_i).
        y: (n, d_y) samples.
        weight: (n,) non-negative weights, normalised by their sum.
    """
    with torch.autocast(y.device.type, enabled=False):
        y, share = y.float(), (weight.float() / weight.sum())[:, None]
        centre = (share * y).sum(0)
        variance = (share * (y - centre).square()).sum(0)
        crossed = (mean - centre).square() + variance
        matched = (mean - y).square()
        return (share * (crossed - matched) * torch.exp(-log_variance) / 2).sum()


def negative_log_likelihood(mean: Tensor, log_variance: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of -log q(y_i|x_i) in nats; arguments as in ``club``."""
    with torch.autocast(y.device.type, enabled=False):
        y, share = y.float(), weight.float() / weight.sum()
        per_dimension = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
        return (share * per_dimension.sum(-1)).sum() / 2


def _network(x_width: int, y_width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(x_width, hidden), nn.ReLU(), nn.Linear(hidden, y_width))
