"""ETHD's network: inputs of each variant, equal expressions, windows, and memory of long videos."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser, noise_input
from diffusion.schedules import zero_terminal_schedule
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape
from runtime.peak_memory import PeakMemory, default_type
from tests.helpers.refusals import refuses
from tests.helpers.unet import SMALL, awake

SCHEDULE = zero_terminal_schedule()

WIDTHS = SignalWidths(lip=6, expression=5, audio_layers=3, audio=7)
B, FRAMES, SIDE, PIXELS = 2, 4, 8, 64


def network(variant="full", **options):
    torch.manual_seed(0)
    return awake(Ethd(SMALL, WIDTHS, PIXELS, variant, **options))


def signals():
    torch.manual_seed(1)
    return DrivingSignals(
        boxes=torch.tensor([[[24.0, 36, 40, 44], [10, 10, 52, 54]]]).repeat(B, 1, 1),
        e_ref=torch.randn(B, 5),
        lip=torch.randn(B, FRAMES, 6),
        e_dri=torch.randn(B, FRAMES, 5),
        e_cond=torch.randn(B, 5),
        audio=torch.randn(B, FRAMES, 3, 7),
    )


def latents(frames=FRAMES):
    torch.manual_seed(2)
    return torch.randn(B, frames, 4, SIDE, SIDE), torch.randn(B), torch.randn(B, 4, SIDE, SIDE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "used"),
    [
        ("full", {"lip", "e_dri", "e_ref"}),
        ("no_decouple", {"audio"}),
        ("wo_lip", {"e_dri", "e_ref"}),
        ("wo_exp", {"lip"}),
        ("wo_dicte", {"lip", "e_cond", "e_ref"}),
    ],
)
def test_a_variant_depends_on_its_inputs_only(variant, used):
    model, given = network(variant), signals()
    out = model(*latents(), given)
    for name in ("lip", "e_dri", "e_ref", "e_cond", "audio"):
        other = replace(given, **{name: getattr(given, name) + torch.randn_like(getattr(given, name))})
        with torch.no_grad():
            assert torch.equal(model(*latents(), other), out) == (name not in used), name
    out.square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_expressions_give_identical_tokens(dtype):
    """The injector's difference is then exactly zero."""
    model, given = network().to(dtype), signals()
    own = replace(given, e_dri=given.e_ref[:, None].expand(-1, FRAMES, -1))
    for driven, equal in ((own, True), (given, False)):
        conditions = model.conditions(driven, latents()[0].to(dtype))
        assert torch.equal(conditions.driving, conditions.reference) == equal


@torch.no_grad()
def test_window_slices_the_driving_signals():
    given, model = signals(), network()
    noisy, noise_input, reference = latents()
    part = slice(1, 3)
    cut = replace(given, lip=given.lip[:, part], e_dri=given.e_dri[:, part], audio=None)
    expected = model(noisy[:, part], noise_input, reference, cut)
    assert torch.equal(model(noisy[:, part], noise_input, reference, given.window(part)), expected)


@torch.no_grad()
def test_absent_signals_disable_branches():
    model, given = network(), signals()
    without_lip = model.conditions(replace(given, lip=None), latents()[0])
    assert without_lip.lip is None is not without_lip.driving
    without_expression = model.conditions(replace(given, e_dri=None), latents()[0])
    assert without_expression.driving is without_expression.timeline is None
    model(*latents(), replace(given, lip=None, e_dri=None))


@torch.no_grad()
def test_clips_are_independent():
    model, given = network(), signals()
    noisy, noise_input, reference = latents()
    second = DrivingSignals(**{name: value if value is None else value[1:] for name, value in vars(given).items()})
    both = model(noisy, noise_input, reference, given)
    alone = model(noisy[1:], noise_input[1:], reference[1:], second)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_x0_prediction_is_the_reference_plus_the_networks_output():
    model, (noisy, _, reference), given = network(prediction="x0"), latents(), signals()
    steps = torch.tensor([999, 400])  # pure noise, and less noise
    level = SCHEDULE.level(steps, noisy)
    noise_level = noise_input(level.flatten())
    change = model.unet(level.sqrt() * noisy, reference, noise_level, model.conditions(given, noisy))
    denoise = VelocityDenoiser(lambda x, n: model(x, n, reference, given), SCHEDULE)
    # Sigma is capped at 700, so 1/700 of the noise remains in the first clip.
    torch.testing.assert_close(denoise(noisy, steps), reference[:, None] + change, atol=5 / 700, rtol=1e-3)


def test_unknown_options_and_missing_signals_are_named():
    given = signals()
    refuses(ValueError, "prediction 'noise': expected one of v, x0", network, prediction="noise")
    refuses(ValueError, "expected one of full, no_decouple", Ethd, SMALL, WIDTHS, PIXELS, "wo_everything")
    for variant, source in (("no_decouple", "audio"), ("wo_dicte", "e_cond")):
        without = replace(given, **{source: None})
        refuses(ValueError, f"{variant}: the driving signals have no {source}", network(variant), *latents(), without)
    refuses(ValueError, "lip: has 4 frames, expected those of the latents, 3", network(), *latents(3), given)


@pytest.mark.slow
def test_sampling_ten_times_as_long_takes_no_more_memory():
    """Except for three float32 latents per frame (192 KiB at 512 px). The network runs one window at a time."""
    model, window = network(), 8

    def peak_of(frames):
        noise, reference = torch.randn(1, frames, 4, SIDE, SIDE), torch.randn(1, 4, SIDE, SIDE)
        given = DrivingSignals(
            boxes=torch.tensor([[[24.0, 36, 40, 44], [10, 10, 52, 54]]]),
            e_ref=torch.randn(1, 5),
            lip=torch.randn(1, frames, 6),
            e_dri=torch.randn(1, frames, 5),
        )

        def predict(x, t, where):
            assert x.shape[1] == window
            part = given.window(where)
            return VelocityDenoiser(lambda noisy, level: model(noisy, level, reference, part), SCHEDULE)(x, t)

        with PeakMemory() as memory:
            out = sample_long(predict, noise, SCHEDULE, 1, window, overlap=2)
        assert out.isfinite().all()
        return memory.peak

    latent = 4 * SIDE * SIDE * 4
    assert peak_of(10 * window) <= 1.05 * peak_of(window) + 3 * latent * 10 * window


@pytest.mark.nightly
def test_videos_of_1024_pixels_are_sampled_with_masks_of_128_to_16():
    """The resolution of the paper's §4.1 (latents of side 128), with the narrowest network of four levels."""
    levels = {"channels": (32,) * 4, "heads": (1,) * 4, "attention": (True, True, True, False)}
    shape = UNetShape(**levels, layers=1, token_width=8, added_width=8)
    model, frames, given = awake(Ethd(shape, WIDTHS, 1024)), 3, signals()
    given = replace(given, boxes=given.boxes * 16).window(slice(0, frames))
    given = replace(given, **{name: getattr(given, name)[:1] for name in ("boxes", "e_ref", "lip", "e_dri")})
    conditions = model.conditions(given, torch.zeros(1, frames, 4, 128, 128))
    assert sorted(conditions.regions, reverse=True) == [128, 64, 32, 16]
    for side, region in conditions.regions.items():
        assert region.shape == (1, 1, side**2, 1)
        assert 0 < region.mean() < 0.7
    reference = torch.zeros(1, 4, 128, 128)

    def predict(x, t, where):
        denoise = VelocityDenoiser(lambda noisy, level: model(noisy, level, reference, given.window(where)), SCHEDULE)
        return denoise(x, t)

    with torch.no_grad(), PeakMemory() as memory:
        video = sample_long(predict, torch.randn(1, frames, 4, 128, 128), SCHEDULE, 2, 2, 1)
    assert video.isfinite().all()
    assert memory.peak < 600 * 2**20


@pytest.mark.nightly
def test_sampling_a_window_of_1024_pixels_fits_an_80_gb_card():
    """120 frames through the network of SVD's size, counted on tensors without data."""
    with FakeTensorMode(), torch.no_grad(), PeakMemory() as memory, default_type(torch.bfloat16):
        model = Ethd(UNetShape(), SignalWidths(512, 30, 1, 1), 1024)
        given = DrivingSignals(
            torch.rand(1, 2, 4), torch.randn(1, 30), torch.randn(1, 120, 512), torch.randn(1, 120, 30)
        )
        model(torch.randn(1, 120, 4, 128, 128), torch.zeros(1), torch.zeros(1, 4, 128, 128), given)
    assert memory.peak < 75 * 2**30, memory.peak / 2**30
