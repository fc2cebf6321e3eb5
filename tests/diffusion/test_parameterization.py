"""The velocity parameterisation against EDM's preconditioning, published loss weights, and an oracle."""

import math

import pytest
import torch

from diffusion.ddim import ddim_step
from diffusion.parameterization import (
    VelocityDenoiser,
    clean,
    loss_weight,
    noise_input,
    signal_share,
    stratified_steps,
    velocity,
    velocity_loss,
    velocity_of_clean,
)
from diffusion.schedules import zero_terminal_schedule

SCHEDULE = zero_terminal_schedule()


def samples(steps=(0, 250, 600, 999)):
    torch.manual_seed(0)
    x0, noise, v = torch.randn(3, len(steps), 5, dtype=torch.float64)
    level = SCHEDULE.level(torch.tensor(steps), x0)
    return x0, noise, v, level, level.sqrt() * x0 + (1 - level).sqrt() * noise


def test_it_is_svds_preconditioning():
    """D = c_skip x + c_out F(c_in x; 1/4 ln sigma) with EDM's coefficients for v and sigma_data = 1."""
    x0, noise, output, level, preserving = samples((0, 250, 600, 990))
    sigma = ((1 - level) / level).sqrt()
    exploding = x0 + sigma * noise
    torch.testing.assert_close(exploding / (sigma**2 + 1).sqrt(), preserving, rtol=1e-12, atol=1e-12)  # c_in
    denoised = exploding / (sigma**2 + 1) - sigma / (sigma**2 + 1).sqrt() * output
    torch.testing.assert_close(clean(preserving, output, level), denoised, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(noise_input(level).double(), sigma.clamp(0.002, 700).log() / 4)


def test_velocity_and_clean_sample_are_inverse():
    x0, noise, _, level, noisy = samples()
    torch.testing.assert_close(clean(noisy, velocity(x0, noise, level), level), x0, rtol=1e-12, atol=1e-12)


def test_a_predicted_clean_sample_has_the_velocity_that_leads_to_it():
    x0, noise, _, level, noisy = samples()
    torch.testing.assert_close(signal_share(noise_input(level.flatten()), x0).double(), level, rtol=1e-5, atol=3e-6)
    found = velocity_of_clean(noisy, x0, noise_input(level.flatten()))
    torch.testing.assert_close(found[:-1].double(), velocity(x0, noise, level)[:-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[-1], -x0[-1].float(), rtol=0, atol=5 / 700)  # all noise: sigma ends at 700


def test_the_networks_noise_input_stays_in_svds_range():
    inputs = noise_input(SCHEDULE.alpha_bar)
    assert (inputs.diff() >= 0).all()
    assert (inputs[:990].diff() > 0).all()
    assert inputs[-1].item() == pytest.approx(math.log(700) / 4)  # no signal left: sigma is infinite
    assert inputs[0].item() > math.log(0.002) / 4
    assert noise_input(torch.ones(1)).item() == pytest.approx(math.log(0.002) / 4)


@pytest.mark.parametrize("weighting", ["x0", "v", "min_snr"])
def test_losses_are_the_published_ones(weighting):
    x0, noise, predicted, level, noisy = samples()
    error = (predicted - velocity(x0, noise, level)).square().mean(1)
    snr = (level / (1 - level)).flatten()
    expected = {
        "x0": (clean(noisy, predicted, level) - x0).square().mean(1),  # Eq. 11
        "v": error,
        "min_snr": error * (snr + 1).clamp(max=5) / (snr + 1),
    }
    out = velocity_loss(predicted, x0, noise, level, weighting)
    torch.testing.assert_close(out.double(), expected[weighting], rtol=1e-5, atol=1e-6)


def test_the_last_step_counts_under_every_weighting():
    terminal = SCHEDULE.alpha_bar[-1:]
    assert all(loss_weight(terminal, weighting) == 1 for weighting in ("x0", "v", "min_snr"))
    with pytest.raises(ValueError, match="expected x0, v or min_snr"):
        loss_weight(terminal, "epsilon")


def test_the_denoiser_finds_what_an_oracle_hides():
    torch.manual_seed(0)
    x0, noise = torch.randn(2, 4, 3, 8)
    steps, seen = torch.tensor([0, 250, 600, 999]), []
    level = SCHEDULE.level(steps, x0)

    def network(x, condition):
        seen.append(condition)
        return velocity(x0, noise, level)

    out = VelocityDenoiser(network, SCHEDULE)(SCHEDULE.add_noise(x0, noise, steps), steps)
    torch.testing.assert_close(out, x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[0], noise_input(SCHEDULE.alpha_bar[steps]))


def test_sampling_starts_from_pure_noise():
    """With no signal left, x_T is the noise, and a step to any level puts the prediction in by that level."""
    x, guess = torch.randn(2, 1, 6).double()
    out = ddim_step(SCHEDULE, x, guess, torch.tensor([999]), torch.tensor([500]))
    level = SCHEDULE.alpha_bar[500]
    torch.testing.assert_close(out, level.sqrt() * guess + (1 - level).sqrt() * x)


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_a_global_batch_covers_the_schedule_evenly_on_any_ranks(size):
    for seed in range(20):
        steps = stratified_steps(1000, torch.arange(size), size, seed)
        assert ((steps >= 0) & (steps < 1000)).all()
        assert ((steps.sort().values.diff() - 1000 / size).abs() <= 1).all()
        halves = [stratified_steps(1000, places, size, seed) for places in torch.arange(size).split(2)]
        assert torch.equal(torch.cat(halves), steps)


@pytest.mark.slow
def test_every_place_of_the_batch_is_uniform():
    steps = torch.stack([stratified_steps(10, torch.arange(4), 4, seed) for seed in range(4000)])
    for place in steps.unbind(1):
        assert place.bincount(minlength=10).float().sub(400).abs().max() < 100  # five standard deviations
