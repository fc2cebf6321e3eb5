"""Sampling with the real network: seeds, windows, progress, and constant memory."""

from copy import deepcopy

import pytest
import torch

from configs.generation import GuidanceConfig
from lightning_modules.ethd.guidance import GuidanceError
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.ethd.sampler import Sampler, SamplingError, SamplingSettings, VideoProgress
from training.memory import PeakMemory


@pytest.fixture(scope="module")
def sampler(pipeline):
    return pipeline.sampler


def signals(sampler, frames):
    size = sampler.info.dimensions
    torch.manual_seed(0)
    return DrivingSignals(
        boxes=torch.tensor([[[24.0, 36, 40, 44], [10, 10, 52, 54]]]),
        e_ref=torch.randn(1, size.expression_width),
        lip=torch.randn(1, frames, size.lip_width),
        e_dri=torch.randn(1, frames, size.expression_width),
    )


def sample(sampler, frames, on_progress=None, **how):
    size = sampler.info.dimensions
    reference = torch.zeros(1, size.latent_channels, size.latent_size, size.latent_size)
    how = SamplingSettings(**{"seed": 0, "steps": 2, "window": 8, "overlap": 2, **how})
    return sampler.sample(reference, signals(sampler, frames), frames, how, on_progress)


@pytest.mark.slow
def test_the_seed_determines_the_latents(sampler):
    first = sample(sampler, 11)
    assert first.shape[:2] == (1, 11)
    assert torch.equal(sample(sampler, 11), first)
    assert not torch.allclose(sample(sampler, 11, seed=1), first)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "windows"), [(2, 1), (8, 1), (9, 2), (14, 2), (15, 3)])
def test_progress_counts_windows_times_steps(sampler, frames, windows):
    calls = []
    sample(sampler, frames, calls.append, steps=3)
    assert calls == [VideoProgress("sampling", done + 1, 3 * windows) for done in range(3 * windows)]


def test_a_device_without_bfloat16_samples_in_float16_or_refuses(sampler, monkeypatch):
    monkeypatch.setattr("lightning_modules.ethd.sampler.inference_dtype", lambda device: torch.float16)
    half = Sampler(sampler.ethd, sampler.info, sampler.codec, torch.device("cpu"))
    torch.testing.assert_close(sample(half, 3), sample(sampler, 3), atol=0.05, rtol=0.05)
    large = deepcopy(sampler.ethd)
    with torch.no_grad():
        for weight in large.parameters():
            weight *= 1000
    half = Sampler(large, sampler.info, sampler.codec, torch.device("cpu"))
    with pytest.raises(SamplingError, match="cpu: has no bfloat16, and values here are too large for float16"):
        sample(half, 3)


def test_omitted_settings_are_the_trainings(sampler):
    assert sampler.settings(0, 5, None, None) == (SamplingSettings(0, 5, 8, 2), ())
    assert sampler.settings(0, None, None, None)[0].steps == sampler.info.config.sampling_steps != 25
    assert sampler.settings(0, 5, 5, None)[0].overlap == 1
    assert sampler.settings(0, 5, None, 3)[0].overlap == 3
    assert "longer than the 8 frames" in sampler.settings(0, 5, 20, None)[1][0]
    for window, overlap in ((None, 8), (4, 4), (None, 20)):
        with pytest.raises(SamplingError, match="less than the window"):
            sampler.settings(0, 5, window, overlap)
    with pytest.raises(SamplingError, match="steps=51: expected at most 50"):
        sampler.settings(0, 51, None, None)
    with pytest.raises(GuidanceError, match=r"guidance\.lips=2: .* trained with model\.lip_dropout=0"):
        sampler.settings(guidance=GuidanceConfig(lips=2.0))


@pytest.fixture
def passes(guidable):
    """Number of passes in each forward of the network."""
    counts = []
    handle = guidable.sampler.ethd.register_forward_pre_hook(lambda _, arguments: counts.append(len(arguments[0])))
    yield counts
    handle.remove()


def guided(guidable, frames, **guidance):
    how = guidable.sampler.settings(guidance=GuidanceConfig(**guidance))[0].guidance
    return sample(guidable.sampler, frames, steps=4, guidance=how)


def test_without_guidance_latents_are_equal_to_the_bit(sampler, guidable, passes):
    wanted = sample(sampler, 11, steps=4)
    for guidance in ({}, {"lips": 1.0, "expression": 1.0}, {"low": 0.2, "high": 0.7}):
        assert torch.equal(guided(guidable, 11, **guidance), wanted)
    assert passes == [1] * len(passes)


def test_guidance_changes_a_video_at_its_noise_levels_alone(guidable, passes):
    plain = guided(guidable, 11)
    passes.clear()
    always = guided(guidable, 11, lips=2.0, expression=1.5)
    assert passes == [3] * 8  # four steps of two windows
    passes.clear()
    late = guided(guidable, 11, lips=2.0, high=0.5)
    assert passes == [1] * 4 + [2] * 4
    passes.clear()
    assert torch.equal(guided(guidable, 11, lips=2.0, high=0.2), plain)  # the last of four steps is at a quarter
    assert passes == [1] * 8
    assert not torch.allclose(always, plain, atol=1e-3)
    assert not torch.allclose(late, plain, atol=1e-3)
    assert torch.equal(guided(guidable, 11, lips=2.0, expression=1.5), always)


def test_guidance_of_windows_is_fused_without_seams(guidable):
    """A scale near 1 changes a video a little, at the seams too."""
    plain, near = guided(guidable, 20), guided(guidable, 20, lips=1.001)
    change = (near - plain).square().mean((0, 2, 3, 4)).sqrt()
    assert 0 < change.max() < 0.01 * plain.std()


@pytest.mark.slow
def test_only_latents_and_driving_signals_grow_with_the_length(sampler):
    """Peak memory of sampling and decoding, beyond what each frame keeps on the host."""

    def peak(frames):
        with PeakMemory() as memory:
            for _ in sampler.decode(sample(sampler, frames, steps=1)):
                pass
        return memory.peak

    size = sampler.info.dimensions
    frame = 4 * (size.latent_channels * size.latent_size**2 + size.lip_width + size.expression_width)
    assert peak(80) <= 1.05 * peak(16) + 64 * frame


@pytest.mark.slow
def test_half_precision_is_near_single(pipeline):
    """bfloat16, which GPUs use, computed on the CPU."""
    half = deepcopy(pipeline.sampler)
    half.dtype = torch.bfloat16
    half.ethd = deepcopy(pipeline.exported.ethd).to(torch.bfloat16)
    single = sample(pipeline.sampler, 9)
    difference = sample(half, 9) - single
    assert 0 < difference.square().mean() < 0.01 * single.square().mean()


def test_decoded_frames_equal_the_codecs(sampler):
    size = sampler.info.dimensions
    latents = torch.rand(1, 150, size.latent_channels, size.latent_size, size.latent_size) - 0.5
    frames = list(sampler.decode(latents))
    whole = sampler.codec.decode(latents[0]).permute(0, 2, 3, 1).numpy()
    assert len(frames) == 150
    assert all((frame == wanted).all() for frame, wanted in zip(frames, whole, strict=True))
