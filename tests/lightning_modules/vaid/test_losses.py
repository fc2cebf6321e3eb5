"""Losses of V-AID: InfoNCE against mutual information, errors against the paper's formulas, and padding."""

import math

import pytest
import torch

from lightning_modules.vaid.losses import info_nce, squared_error, velocity_error

N, D = 120, 4


def full(clips: int, frames: int = N) -> torch.Tensor:
    return torch.ones(clips, frames, dtype=torch.bool)


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_bound_is_below_the_mutual_information_of_gaussians(rho, temperature):
    x, noise = torch.randn(2, 200, N, D, generator=torch.Generator().manual_seed(0))
    bound = info_nce(x, rho * x + math.sqrt(1 - rho**2) * noise, full(200), temperature).bound
    information = -D / 2 * math.log(1 - rho**2)
    assert bound.mean() <= information + 3 * bound.std() / math.sqrt(len(bound))
    assert (bound <= math.log(N) + 1e-5).all()


def test_independent_latents_score_at_chance():
    x, y = torch.randn(2, 50, N, D, generator=torch.Generator().manual_seed(0))
    contrast = info_nce(x, y, full(50), temperature=100.0)
    assert contrast.loss.mean().item() == pytest.approx(math.log(N), abs=1e-3)
    assert contrast.top1.mean().item() == pytest.approx(1 / N, abs=0.01)
    assert contrast.near1.mean().item() == pytest.approx(3 / N, abs=0.015)


def test_equal_latents_have_perfect_accuracy():
    x = torch.randn(3, N, 16)
    contrast = info_nce(x, 5 * x, full(3))
    assert ((contrast.top1 == 1) & (contrast.loss < 0.05)).all()


def test_a_shift_by_one_frame_counts_for_near1_only():
    x = torch.randn(1, N, 16)
    contrast = info_nce(x, x.roll(1, dims=1), full(1))
    assert contrast.top1.item() == 0
    assert contrast.near1.item() == pytest.approx((N - 1) / N)  # roll moves one frame to the other end


def test_info_nce_equals_equation_4():
    a, v = torch.randn(2, 7, D, generator=torch.Generator().manual_seed(1)).double()
    similarity = torch.stack([torch.stack([torch.cosine_similarity(x, y, dim=0) for y in v]) for x in a]) / 0.2
    expected = -(similarity.diagonal().exp() / similarity.exp().sum(1)).log().mean()
    torch.testing.assert_close(info_nce(a[None], v[None], full(1, 7), 0.2).loss[0], expected.float())


def test_errors_equal_the_papers_formulas():
    a, b = torch.randn(2, 2, 9, D)
    torch.testing.assert_close(squared_error(a, b, full(2, 9)), (a - b).square().mean((1, 2)))
    torch.testing.assert_close(squared_error(a, b, full(2, 9), "sum"), (a - b).square().sum(2).mean(1))
    moved = ((a[:, 1:] - a[:, :-1]) - (b[:, 1:] - b[:, :-1])).square().mean((1, 2))
    torch.testing.assert_close(velocity_error(a, b, full(2, 9)), moved)
    assert velocity_error(a[:, :1], b[:, :1], full(2, 1)).tolist() == [0, 0]


@pytest.mark.parametrize("padding", [float("nan"), float("inf"), 1e4])
def test_padding_affects_neither_losses_nor_gradients(padding):
    clips = [torch.randn(2, length, D) for length in (5, 11)]
    a, b = torch.full((2, 2, 14, D), padding)
    mask = torch.zeros(2, 14, dtype=torch.bool)
    for row, (x, y) in enumerate(clips):
        a[row, : len(x)], b[row, : len(x)], mask[row, : len(x)] = x, y, True
    for loss in (lambda *x: info_nce(*x).loss, squared_error, velocity_error):
        padded = loss(a.requires_grad_(), b, mask)
        alone = torch.cat([loss(x[None], y[None], full(1, len(x))) for x, y in clips])
        torch.testing.assert_close(padded, alone)
    if math.isfinite(padding):
        gradient = torch.autograd.grad(info_nce(a, b, mask).loss.sum(), a)[0]
        assert not gradient[~mask].any()
        assert gradient[mask].any()
