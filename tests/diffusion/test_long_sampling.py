"""Sampling of long sequences: exactness with an oracle, equality with diffusers' DDIM, and constant memory."""

import random
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler

from diffusion.ddim import ddim_step, trailing_steps
from diffusion.long_sampling import sample_in_order, sample_long
from diffusion.parameterization import VelocityDenoiser, velocity
from diffusion.schedules import zero_terminal_schedule
from diffusion.windows import fused_in_order, triangular_weights, window_starts
from runtime.peak_memory import PeakMemory
from tests.helpers.refusals import refuses

SCHEDULE = zero_terminal_schedule()


def collect(pieces, like):
    """Concatenates the pieces after checking that they are in order and without gaps."""
    pieces = list(pieces)
    assert pieces[0][0].start == 0
    assert pieces[-1][0].stop == like.shape[1]
    assert all(a.stop == b.start for (a, _), (b, _) in pairwise(pieces))
    assert all(part.shape[1] == where.stop - where.start for where, part in pieces)
    return torch.cat([part for _, part in pieces], 1)


def uneven(part, where):
    """A network whose result depends on the whole window and on its position."""
    places = torch.linspace(-1, 1, part.shape[1]).view(1, -1, *[1] * (part.dim() - 2))
    return part * places.cos() + part.mean(1, keepdim=True) + 0.01 * where.start


def weighted_mean(x, window, overlap, seed=None):
    """The fused result from sums over the whole sequence, with the windows in random order if there is a seed."""
    window = min(window, x.shape[1])
    total, weight = torch.zeros_like(x), torch.zeros(1, x.shape[1], 1)
    starts, triangle = window_starts(x.shape[1], window, min(overlap, window - 1)), triangular_weights(window)
    if seed is not None:
        random.Random(seed).shuffle(starts)
    for start in starts:
        where = slice(start, start + window)
        total[:, where] += uneven(x[:, where], where) * triangle[None, :, None]
        weight[:, where] += triangle[None, :, None]
    return total / weight


@pytest.mark.parametrize(("window", "overlap"), [(8, 2), (8, 0), (8, 7), (5, 3), (1, 0), (120, 24)])
def test_streaming_fusion_is_the_weighted_mean(window, overlap):
    for total in {1, 2, window - 1, window, window + 1, 2 * window, 2 * window + 3, 5 * window + 1} - {0}:
        x = torch.randn(2, total, 3)
        expected = weighted_mean(x, window, overlap)
        torch.testing.assert_close(collect(fused_in_order(uneven, x, window, overlap), x), expected)


def test_yielded_frames_may_be_overwritten():
    x = torch.randn(1, 50, 3)
    expected = weighted_mean(x, 8, 2)
    work = x.clone()
    for where, part in fused_in_order(uneven, work, 8, 2):
        work[:, where] = part
    torch.testing.assert_close(work, expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_windows_does_not_matter(seed):
    x = torch.randn(1, 53, 3)
    torch.testing.assert_close(collect(fused_in_order(uneven, x, 8, 3), x), weighted_mean(x, 8, 3, seed))


def oracle(x0):
    """A velocity network that knows the clean sequence and computes the noise of its input."""

    def predict(x, t, where):
        def network(noisy, _):
            level = SCHEDULE.level(t, noisy)
            noise = (noisy - level.sqrt() * x0[:, where]) / (1 - level).sqrt()
            return velocity(x0[:, where], noise, level)

        return VelocityDenoiser(network, SCHEDULE)(x, t)

    return predict


EDGES = [1, 2, 23, 24, 95, 96, 97, 119, 120, 121, 143, 144, 215, 216, 217, 239, 240, 241, 1499, 1500]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 7, 25])
def test_an_oracle_is_returned_for_every_length(steps):
    for frames in [*EDGES, *random.Random(steps).sample(range(1, 1501), 60)]:
        x0 = torch.randn(1, frames, 2)
        out = sample_long(oracle(x0), torch.randn_like(x0), SCHEDULE, steps, window=120, overlap=24)
        torch.testing.assert_close(out, x0, atol=2e-4, rtol=1e-4, msg=lambda text, frames=frames: f"{frames}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize(("window", "overlap"), [(16, 3), (16, 0), (16, 15), (1, 0)])
def test_an_oracle_is_returned_for_every_window(window, overlap):
    for frames in range(1, 70):
        x0 = torch.randn(1, frames, 1)
        out = sample_long(oracle(x0), torch.randn_like(x0), SCHEDULE, 3, window, overlap)
        torch.testing.assert_close(out, x0, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 10, 25, 50])
def test_sampling_equals_diffusers_ddim(steps):
    """For numbers of steps that divide the schedule; for others diffusers does not reach the clean sample."""
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", prediction_type="sample", clip_sample=False,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == trailing_steps(1000, steps)

    def guess(x, t, where):
        return 3 * torch.tanh(x + t.view(-1, 1, 1) / 1000)  # exceeds +-1, so that clipping would be detected

    torch.manual_seed(0)
    expected = noise = torch.randn(2, 9, 4)
    for t in scheduler.timesteps:
        expected = scheduler.step(guess(expected, t.expand(2), None), t, expected).prev_sample
    out = sample_long(guess, noise.clone(), SCHEDULE, steps, window=9, overlap=0)
    assert out.abs().max() > 1
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def step_after_step(predict, noise, schedule, steps, window, overlap):
    """Sampling in the plain order: all windows of a step before the next step."""
    x, levels = noise.clone(), trailing_steps(len(schedule), steps)
    starts = window_starts(x.shape[1], window, overlap)
    if len(starts) == 1:
        weights = torch.ones(1, x.shape[1], *[1] * (x.dim() - 2))
    else:
        weights = triangular_weights(window).view(1, -1, *[1] * (x.dim() - 2))
    for now, then in zip(levels, [*levels[1:], -1], strict=True):
        total, covered = torch.zeros_like(x), torch.zeros(1, x.shape[1], *[1] * (x.dim() - 2))
        times = [torch.full((len(x),), t) for t in (now, then)]
        for start in starts:
            where = slice(start, min(start + window, x.shape[1]))
            total[:, where] += predict(x[:, where], times[0], where) * weights
            covered[:, where] += weights
        x = ddim_step(schedule, x, total / covered if len(starts) > 1 else total, *times)
    return x


def mixing(x, t, where):
    """A network whose result depends on all frames of the window, their place, and the step."""
    return uneven(torch.tanh(x + t.view(-1, *[1] * (x.dim() - 1)) / 1000), where)


LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 23, 40, 41, 61)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("window", "overlap"), [(8, 0), (8, 2), (8, 4), (8, 5), (8, 7), (5, 3), (1, 0)])
def test_the_order_of_windows_and_steps_changes_no_bit(window, overlap, steps):
    for frames in LENGTHS:
        noise = torch.randn(2, frames, 3)
        expected = step_after_step(mixing, noise, SCHEDULE, steps, window, overlap)
        assert torch.equal(sample_long(mixing, noise.clone(), SCHEDULE, steps, window, overlap), expected)


def test_frames_are_final_when_they_are_yielded():
    noise = torch.randn(1, 61, 2)
    expected, end = step_after_step(mixing, noise, SCHEDULE, 4, 8, 3), 0
    for where in sample_in_order(mixing, noise, SCHEDULE, 4, 8, 3):
        assert where.start == end
        assert torch.equal(noise[:, where], expected[:, where])
        noise[:, where] = torch.nan  # nobody reads them again
        end = where.stop
    assert end == 61


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "steps", "first"),
    [
        (1500, 120, 24, 10, 55),  # n (n + 1) / 2 of 160
        (1500, 120, 24, 25, 280),  # 16 windows of the last steps are all there are
        (15000, 120, 24, 25, 325),  # of 3,900
        (1500, 120, 60, 5, 15),
        (1500, 120, 90, 5, 1 + 4 + 7 + 10 + 13),  # a window overlaps three others
        (100, 120, 24, 5, 5),
        (200, 120, 24, 5, 9),  # two windows
    ],
)
def test_windows_before_the_first_frames(frames, window, overlap, steps, first):
    counts = []

    def predict(x, t, where):
        counts[-1] += 1
        return x

    pieces = sample_in_order(predict, torch.zeros(1, frames, 1), SCHEDULE, steps, window, overlap)
    counts.append(0)
    for _ in pieces:
        counts.append(0)
    assert counts[0] == first
    assert sum(counts) == steps * len(window_starts(frames, window, overlap))


def test_memory_does_not_grow_with_the_length():
    """The memory of the sampler without the sequence itself."""

    def extra(frames, steps):
        noise = torch.randn(1, frames, 4, 16, 16)
        with PeakMemory() as memory:
            sample_long(lambda x, t, where: x * 0.5, noise, SCHEDULE, steps, window=20, overlap=4)
        return memory.peak - noise.nbytes  # the profiler counts it through its slices

    for steps in (1, 2, 8):
        assert extra(400, steps) == extra(40 * steps, steps)
    shared = noise_bytes(4)
    assert extra(400, 8) - extra(400, 2) <= 6 * (shared + 1000)  # each step keeps what two windows share
    assert extra(400, 1) < 6 * noise_bytes(20)


def noise_bytes(frames):
    """Bytes of frames of the latents above."""
    return frames * 4 * 16 * 16 * 4


def test_invalid_overlap_and_steps_are_rejected():
    given = lambda x, t, where: x, torch.randn(1, 20, 1), SCHEDULE
    refuses(ValueError, "overlap 8: expected at least 0 and less than the window of 8", sample_long, *given, 4, 8, 8)
    refuses(ValueError, "DDIM steps: 1001", sample_long, *given, 1001, 8, 2)
