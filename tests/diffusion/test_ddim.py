"""DDIM sampling with an oracle that knows the clean sample, and against the ODE form of DDIM."""

import pytest
import torch

from diffusion.ddim import ddim_sample, ddim_step, seeded_noise, trailing_steps
from diffusion.schedules import cosine_schedule
from diffusion.windows import fuse_windows

SCHEDULE = cosine_schedule(1000)


@pytest.mark.parametrize("steps", [1, 10, 25, 50, 1000])
def test_an_oracle_is_returned_exactly(steps):
    x0 = torch.randn(2, 30, 5)
    out = ddim_sample(lambda x, t: x0, torch.randn_like(x0), SCHEDULE, steps)
    torch.testing.assert_close(out, x0)


@pytest.mark.parametrize("frames", [1, 7, 16, 17, 50, 64, 101])
def test_an_oracle_in_windows_is_returned_exactly(frames):
    x0 = torch.randn(1, frames, 3)
    predict = lambda x, t: fuse_windows(lambda part, where: x0[:, where], x, window=16, overlap=3)  # noqa: E731
    torch.testing.assert_close(ddim_sample(predict, torch.randn_like(x0), SCHEDULE, 10), x0)


def test_trailing_steps_start_at_the_last_and_are_evenly_spaced():
    assert trailing_steps(1000, 4) == [999, 749, 499, 249]
    assert trailing_steps(1000, 1000) == list(range(999, -1, -1))
    with pytest.raises(ValueError, match="DDIM steps: 11, expected 1 to 10"):
        trailing_steps(10, 11)


def test_a_step_is_an_euler_step_in_sigma():
    x0, noise = torch.randn(2, 1, 8).double()
    t, following = torch.tensor([600]), torch.tensor([560])
    x = SCHEDULE.add_noise(x0, noise, t)
    guess = x0 + 0.1 * torch.randn_like(x0)
    level, next_level = SCHEDULE.alpha_bar[[600, 560]].split(1)
    sigma, next_sigma = (1 / level - 1).sqrt(), (1 / next_level - 1).sqrt()
    scaled = x / level.sqrt()  # variance-exploding form; its derivative with respect to sigma is (x - x0) / sigma
    expected = scaled + (next_sigma - sigma) * (scaled - guess) / sigma
    torch.testing.assert_close(ddim_step(SCHEDULE, x, guess, t, following), expected * next_level.sqrt())


def test_samples_of_a_gaussian_have_its_mean_and_deviation():
    mean, deviation = 3.0, 0.5

    def posterior(x, t):
        level = SCHEDULE.level(torch.full((len(x),), t), x)
        gain = level.sqrt() * deviation**2 / (level * deviation**2 + 1 - level)
        return mean + gain * (x - level.sqrt() * mean)

    samples = ddim_sample(posterior, seeded_noise((20_000, 1), 0), SCHEDULE, 200)
    assert samples.mean().item() == pytest.approx(mean, abs=0.02)
    assert samples.std().item() == pytest.approx(deviation, rel=0.03)


def test_seeded_noise_depends_on_the_seed_only():
    for seed in (7, 8):
        assert torch.equal(seeded_noise((5, 3), 7), seeded_noise((5, 3), seed)) == (seed == 7)
