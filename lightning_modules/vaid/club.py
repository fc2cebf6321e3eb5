"""CLUB: an upper bound on mutual information, and how it is trained and minimised in one backward pass.

Cheng et al. 2020 (arXiv 2006.12013), Eq. 8 of EmotiveTalk. With q(y|x) = N(mu(x), diag sigma(x)^2) and weights w,

    CLUB = sum_i w_i log q(y_i|x_i) - sum_i w_i sum_j w_j log q(y_j|x_i)

bounds I(x; y) from above when q is close to the true conditional; an untrained q bounds nothing and may read negative,
so the estimate is logged beside q's negative log-likelihood and never clamped.

Shapes: n pairs, d_x and d_y widths.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

LOG_VARIANCE = (-8.0, 4.0)  # a tanh would cap the estimate below the true information when x and y are nearly equal


class GaussianConditional(nn.Module):
    """q(y|x): a diagonal Gaussian whose mean and log-variance are small networks of x; always computed in fp32.

    Args:
        x_width: d_x.
        y_width: d_y.
        hidden: width of the hidden layer.
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
    """What one batch of pairs gives; all scalars.

    Attributes:
        estimate: CLUB in nats; differentiable in x and y, not in q.
        likelihood_loss: q's mean negative log-likelihood in nats; differentiable in q, not in x and y.
    """

    estimate: Tensor
    likelihood_loss: Tensor


def club_terms(q: GaussianConditional, x: Tensor, y: Tensor, weight: Tensor) -> ClubTerms:
    """Both terms of a step, gradient-disjoint, so that one backward of their sum equals two alternating ones.

    Args:
        q: the conditional.
        x: (n, d_x).
        y: (n, d_y).
        weight: (n,) weight from 0 of each pair, e.g. 0 for padding; only ratios matter. Not all may be 0.

    Returns:
        The two terms; rows of weight 0 change neither.
    """
    frozen = {name: parameter.detach() for name, parameter in q.named_parameters()}
    mean, log_variance = functional_call(q, frozen, (x,))
    learning_mean, learning_log_variance = q(x.detach())
    return ClubTerms(
        estimate=club(mean, log_variance, y, weight),
        likelihood_loss=negative_log_likelihood(learning_mean, learning_log_variance, y.detach(), weight),
    )


def club(mean: Tensor, log_variance: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The estimate over all n^2 pairs, in nats; scalar.

    The double sum needs only the mean and the variance of y: sum_j w_j (mu - y_j)^2 = (mu - E y)^2 + Var y, so it costs
    O(n d_y) and needs no random pairing. The log-variances cancel.

    Args:
        mean: (n, d_y) of q(y|x_i).
        log_variance: (n, d_y) of q(y|x_i).
        y: (n, d_y).
        weight: (n,) from 0; only ratios matter.
    """
    with torch.autocast(y.device.type, enabled=False):
        y, share = y.float(), (weight.float() / weight.sum())[:, None]
        centre = (share * y).sum(0)
        variance = (share * (y - centre).square()).sum(0)
        crossed = (mean - centre).square() + variance
        matched = (mean - y).square()
        return (share * (crossed - matched) * torch.exp(-log_variance) / 2).sum()


def negative_log_likelihood(mean: Tensor, log_variance: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over pairs of -log q(y_i|x_i), in nats; arguments as in ``club``."""
    with torch.autocast(y.device.type, enabled=False):
        y, share = y.float(), weight.float() / weight.sum()
        per_dimension = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
        return (share * per_dimension.sum(-1)).sum() / 2


def _network(x_width: int, y_width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(x_width, hidden), nn.ReLU(), nn.Linear(hidden, y_width))
