"""Guidance: the formula against separate passes, one batch for all passes, the interval, and networks without it."""

from dataclasses import replace

import pytest
import torch

from configs.generation import GuidanceConfig
from configs.models import EthdConfig
from lightning_modules.ethd.guidance import (
    Guidance,
    GuidanceError,
    guidance_of,
    guided_parts,
    guided_velocity,
    trained_guidance,
)
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape
from tests.helpers.ethd import awake

CLIPS, FRAMES = 2, 3
TRAINED = EthdConfig(lip_dropout=0.1, expression_dropout=0.1)


@pytest.fixture(scope="module")
def ethd():
    torch.manual_seed(0)
    shape = UNetShape(8, 4, (32, 32), (1, 1), (True, True), layers=1, token_width=8, added_width=8)
    return awake(Ethd(shape, SignalWidths(6, 5, 2, 7), 64)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    """Noisy latents, noise level, portrait and driving signals."""
    torch.manual_seed(1)
    signals = DrivingSignals(
        boxes=torch.tensor([[[24.0, 36, 40, 44], [10, 10, 52, 54]]]).repeat(CLIPS, 1, 1),
        e_ref=torch.randn(CLIPS, 5),
        lip=torch.randn(CLIPS, FRAMES, 6),
        e_dri=torch.randn(CLIPS, FRAMES, 5),
    )
    return torch.randn(CLIPS, FRAMES, 4, 8, 8), torch.tensor([0.3, -0.2]), torch.randn(CLIPS, 4, 8, 8), signals


@pytest.fixture
def counted(ethd):
    """Batch sizes of the network's forward passes."""
    sizes = []
    handle = ethd.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    yield sizes
    handle.remove()


def velocity(ethd, inputs, lips, expression):
    """Velocity of one forward pass, in which a condition may be missing in all clips."""
    *latents, signals = inputs
    dropped = torch.tensor([[not lips, not expression]]).repeat(CLIPS, 1)
    return ethd(*latents, replace(signals, dropped=dropped))


def test_without_guidance_there_is_one_pass_that_is_equal_to_the_bit(ethd, inputs, counted):
    wanted = ethd(*inputs)
    assert torch.equal(guided_velocity(ethd, *inputs, Guidance().passes(1.0)), wanted)
    assert counted == [CLIPS, CLIPS]


@pytest.mark.parametrize(
    ("lips", "expression", "passes"),
    [(2.0, 1.0, 2), (1.0, 1.5, 2), (2.5, 0.5, 3), (1.3, 3.0, 3), (0.0, 1.0, 1), (1.0, 0.0, 1), (0.0, 0.0, 3)],
)
def test_the_formula_equals_separate_passes(ethd, inputs, counted, lips, expression, passes):
    found = guided_velocity(ethd, *inputs, Guidance(lips, expression).passes(0.5))
    assert counted == [passes * CLIPS]  # one batch of the passes that are needed
    both = velocity(ethd, inputs, True, True)
    no_lips, no_expression = velocity(ethd, inputs, False, True), velocity(ethd, inputs, True, False)
    wanted = both + (lips - 1) * (both - no_lips) + (expression - 1) * (both - no_expression)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, both, rtol=1e-2)


def test_the_weights_of_the_passes_add_up_to_one():
    for lips, expression in ((1.0, 1.0), (2.0, 1.0), (3.5, 0.2), (0.0, 0.0)):
        assert sum(weight for _, weight in Guidance(lips, expression).passes(1.0)) == pytest.approx(1)


@pytest.mark.parametrize(("share", "guided"), [(1.0, False), (0.81, False), (0.8, True), (0.21, True), (0.2, False)])
def test_guidance_acts_inside_of_its_interval(share, guided):
    assert len(Guidance(2.0, 2.0, low=0.2, high=0.8).passes(share)) == (3 if guided else 1)


def test_intervals_that_touch_cover_every_step_once():
    shares = [(step + 1) / 50 for step in range(50)]
    parts = [Guidance(lips=2.0, low=low, high=high) for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1))]
    assert all(sum(len(part.passes(share)) == 2 for part in parts) == 1 for share in shares)


def test_values_left_out_are_those_of_the_training():
    config = replace(TRAINED, lip_guidance=1.5)
    assert trained_guidance(config) == Guidance(1.5, 1.0)
    assert guidance_of(None, config) == (Guidance(1.5, 1.0), ())
    assert guidance_of(GuidanceConfig(expression=2.0, low=0.1), config) == (Guidance(1.5, 2.0, 0.1), ())
    assert guidance_of(GuidanceConfig(lips=1.0), config) == (Guidance(), ())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ("lips", "expression")),
        ({"lip_dropout": 0.0}, ("expression",)),
        ({"variant": "wo_exp"}, ("lips",)),
        ({"variant": "wo_lip"}, ("expression",)),
        ({"variant": "no_decouple"}, ()),
        ({"variant": "wo_dicte"}, ("lips", "expression")),
    ],
)
def test_parts_that_can_be_guided(changes, parts):
    assert guided_parts(replace(TRAINED, **changes)) == parts


@pytest.mark.parametrize(
    ("config", "guidance", "message"),
    [
        (EthdConfig(), {"lips": 2.0}, r"guidance\.lips=2: .* trained with model\.lip_dropout=0, .*=ethd/paper_guided"),
        (EthdConfig(lip_dropout=0.1), {"expression": 0.5}, r"guidance\.expression=0\.5: .*model\.expression_dropout=0"),
        (replace(TRAINED, variant="wo_lip"), {"lips": 2.0}, r"guidance\.lips=2: .*variant wo_lip.* no separate lips"),
        (replace(TRAINED, variant="wo_exp"), {"expression": 2.0}, r"guidance\.expression=2: .*variant wo_exp"),
        (replace(TRAINED, variant="no_decouple"), {"lips": 2.0}, r"guidance\.lips=2: .*variant no_decouple"),
        (replace(TRAINED, variant="no_decouple"), {"expression": 2.0}, r"\.expression=2: .*variant no_decouple"),
    ],
)
def test_a_network_that_cannot_be_guided_refuses_in_a_line(config, guidance, message):
    with pytest.raises(GuidanceError, match=message) as error:
        guidance_of(GuidanceConfig(**guidance), config)
    assert "\n" not in str(error.value)


def test_conditions_that_do_not_drive_the_video_are_not_guided():
    wanted = GuidanceConfig(lips=2.0, expression=3.0)
    note = "guidance.expression: has no effect with drive=lips"
    assert guidance_of(wanted, TRAINED, "lips") == (Guidance(lips=2.0), (note,))
    note = "guidance.lips: has no effect with drive=expression"
    assert guidance_of(wanted, TRAINED, "expression") == (Guidance(expression=3.0), (note,))
    trained = replace(TRAINED, lip_guidance=2.0, expression_guidance=3.0)
    assert guidance_of(None, trained, "lips") == (Guidance(lips=2.0), ())  # nobody asked: no note


def test_an_interval_without_guidance_is_noted():
    assert "have no effect without guidance.lips or" in guidance_of(GuidanceConfig(low=0.2), TRAINED)[1][0]
