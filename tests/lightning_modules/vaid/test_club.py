"""CLUB against closed forms for Gaussians, the explicit double sum, and two alternating backward passes."""

import math

import pytest
import torch
from torch import nn

from lightning_modules.vaid.club import GaussianConditional, club, club_terms, negative_log_likelihood
from tests.helpers.steps import descend

D = 4


def correlated(rho: float, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of D-dimensional standard Gaussians with correlation rho per coordinate."""
    x, noise = torch.randn(2, n, D, generator=torch.Generator().manual_seed(seed))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def exact_q(x: torch.Tensor, rho: float) -> tuple[torch.Tensor, torch.Tensor]:
    return rho * x, torch.full_like(x, math.log(1 - rho**2))


def mutual_information(rho: float) -> float:
    return -D / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_exact_conditional_gives_the_closed_form_above_the_information(rho):
    x, y = correlated(rho, 100_000)
    estimate = club(*exact_q(x, rho), y, torch.ones(len(x))).item()
    assert estimate == pytest.approx(D * rho**2 / (1 - rho**2), rel=0.02, abs=0.01)
    assert estimate >= mutual_information(rho) - 0.01


def test_estimate_equals_the_double_sum_over_all_pairs():
    x, y = correlated(0.7, 50)
    weight = torch.rand(50)
    q = GaussianConditional(D, D, 16)
    mean, log_variance = q(x)
    share = weight / weight.sum()
    gaussian = torch.distributions.Normal(mean, (log_variance / 2).exp())
    matched = (share * gaussian.log_prob(y).sum(-1)).sum()
    # row j of the (j, i) table holds log q(y_j | x_i)
    crossed = share @ gaussian.log_prob(y[:, None]).sum(-1) @ share
    torch.testing.assert_close(club(mean, log_variance, y, weight), matched - crossed, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(negative_log_likelihood(mean, log_variance, y, weight), -matched, rtol=1e-4, atol=1e-5)


def trained_q(rho: float) -> GaussianConditional:
    torch.manual_seed(0)
    q = GaussianConditional(D, D, 64)
    optimizer = torch.optim.Adam(q.parameters(), 3e-3)
    for step in range(1000):
        descend(optimizer, club_terms(q, *correlated(rho, 256, seed=step), torch.ones(256)).likelihood_loss)
    return q


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_trained_conditional_bounds_the_information(rho):
    q = trained_q(rho)
    x, y = correlated(rho, 50_000, seed=10_000)
    terms = club_terms(q, x, y, torch.ones(len(x)))
    assert terms.estimate.item() == pytest.approx(D * rho**2 / (1 - rho**2), rel=0.15, abs=0.05)
    assert terms.estimate.item() >= mutual_information(rho) - 0.05
    # The NLL of the exact conditional is its entropy.
    entropy = D / 2 * math.log(2 * math.pi * math.e * (1 - rho**2))
    assert terms.likelihood_loss.item() == pytest.approx(entropy, abs=0.1)


@pytest.mark.slow
def test_minimising_club_lowers_the_true_information():
    torch.manual_seed(0)
    mixer = nn.Parameter(torch.tensor([1.0, 0.5]))  # weights of signal and noise in y
    q = GaussianConditional(D, D, 64)
    optimizer = torch.optim.Adam([{"params": [mixer], "lr": 1e-2}, {"params": q.parameters(), "lr": 3e-3}])

    def information() -> float:
        signal, noise = mixer.tolist()
        return mutual_information(signal / math.hypot(signal, noise))

    before = information()
    for step in range(600):
        x, noise = torch.randn(2, 256, D, generator=torch.Generator().manual_seed(step))
        y = (mixer[0] * x + mixer[1] * noise) / mixer.norm()
        terms = club_terms(q, x, y, torch.ones(256))
        descend(optimizer, (terms.estimate if step >= 100 else 0) + terms.likelihood_loss)
    assert before > 3
    assert information() < 0.1 * before


def test_one_backward_equals_two_alternating_backwards():
    torch.manual_seed(0)
    encoder, q = nn.Linear(6, 2 * D), GaussianConditional(D, D, 16)
    data, weight = torch.randn(64, 6), torch.rand(64)
    parameters = [*encoder.parameters(), *q.parameters()]

    x, y = encoder(data).chunk(2, dim=-1)
    terms = club_terms(q, x, y, weight)
    (0.3 * terms.estimate + terms.likelihood_loss).backward()
    together = [parameter.grad.clone() for parameter in parameters]

    encoder.zero_grad()
    q.zero_grad()
    q.requires_grad_(False)
    x, y = encoder(data).chunk(2, dim=-1)
    (0.3 * club(*q(x), y, weight)).backward()
    q.requires_grad_(True)
    x, y = (part.detach() for part in encoder(data).chunk(2, dim=-1))
    negative_log_likelihood(*q(x), y, weight).backward()
    for one, parameter in zip(together, parameters, strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_pairs_of_zero_weight_have_no_effect():
    q = GaussianConditional(D, D, 16)
    x, y = correlated(0.5, 40)
    weight = torch.ones(40)
    weight[25:] = 0
    changed_x, changed_y = x.clone(), y.clone()
    changed_x[25:], changed_y[25:] = 1e3, -1e3
    expected = club_terms(q, x[:25], y[:25], weight[:25])
    torch.testing.assert_close(club_terms(q, changed_x, changed_y, weight), expected)


def test_half_precision_inputs_are_computed_in_float32():
    q = GaussianConditional(D, D, 16)
    x, y = (part.half() for part in correlated(0.9, 1000))
    with torch.autocast("cpu", torch.bfloat16):
        half = club_terms(q, 100 * x, 100 * y, torch.ones(1000))
    full = club_terms(q, (100 * x).float(), (100 * y).float(), torch.ones(1000))
    assert half.estimate.dtype == torch.float32
    torch.testing.assert_close(half, full)
