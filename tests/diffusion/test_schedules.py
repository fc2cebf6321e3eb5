"""Noise schedules against published formulas and diffusers, and the variance of noisy samples."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from diffusion.schedules import cosine_schedule, zero_terminal_schedule


def test_cosine_schedule_equals_the_published_formula():
    level, start = cosine_schedule(1000).alpha_bar, math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    for t in (0, 99, 499, 899):
        expected = math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / start
        assert level[t].item() == pytest.approx(expected, rel=1e-9)


def test_cosine_schedule_decreases_from_1_to_0():
    level = cosine_schedule(1000).alpha_bar
    assert (level.diff() < 0).all()
    assert level[0] > 0.9999
    assert 0 < level[-1] < 1e-6
    assert len(cosine_schedule(50)) == 50


def test_noisy_samples_keep_unit_variance():
    x0, noise = torch.randn(2, 3, 100_000)
    noisy = cosine_schedule(1000).add_noise(x0, noise, torch.tensor([0, 500, 999]))
    torch.testing.assert_close(noisy.var(1), torch.ones(3), rtol=0.02, atol=0)
    torch.testing.assert_close(noisy[0], x0[0], atol=0.05, rtol=0)
    torch.testing.assert_close(noisy[2], noise[2], atol=0.01, rtol=0)


def test_step_minus_one_is_the_clean_sample():
    x0 = torch.randn(2, 3)
    assert torch.equal(cosine_schedule(10).add_noise(x0, torch.randn(2, 3), torch.tensor([-1, -1])), x0)


def test_zero_terminal_schedule_equals_diffusers():
    level = zero_terminal_schedule().alpha_bar
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    torch.testing.assert_close(level.float(), scheduler.alphas_cumprod, atol=1e-5, rtol=1e-4)
    assert level[-1] == 0
    assert (level.diff() < 0).all()
    assert level[0] == pytest.approx(1 - 0.00085)


def test_a_shift_multiplies_every_sigma():
    def sigma(level):
        return ((1 - level) / level).sqrt()

    plain, shifted = zero_terminal_schedule(100).alpha_bar, zero_terminal_schedule(100, shift=4).alpha_bar
    torch.testing.assert_close(sigma(shifted[:-1]), 4 * sigma(plain[:-1]), rtol=1e-10, atol=0)
    assert shifted[-1] == 0
