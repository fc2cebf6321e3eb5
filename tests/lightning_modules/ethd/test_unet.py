"""The U-Net against diffusers' at initialisation, and with and without checkpointing."""

from dataclasses import replace

import pytest
import torch

from lightning_modules.ethd.svd_weights import match_keys
from lightning_modules.ethd.transformer import Branches
from lightning_modules.ethd.unet import ADDED_TIME_IDS, UNet, UNetShape
from runtime.peak_memory import PeakMemory
from tests.helpers.refusals import refuses
from tests.helpers.unet import SMALL, awake, inputs, stock

DEEP = UNetShape(
    in_channels=12, out_channels=6, channels=(32, 64, 96), heads=(1, 2, 3), attention=(True, True, False), layers=2,
    token_width=32, added_width=32,
)  # fmt: skip
ONE_LEVEL = UNetShape(channels=(32,), heads=(1,), attention=(True,), layers=1, token_width=8, added_width=8)
TOKENS = ("lip", "driving", "reference", "timeline")


def ours(shape, branches=None, source=None, **options):
    """Builds our U-Net, initialised from diffusers' weights as for training."""
    torch.manual_seed(2)
    model = UNet(shape, branches, **options)
    if source is not None:
        theirs = source.state_dict()
        shapes = [{name: value.shape for name, value in one.items()} for one in (model.state_dict(), theirs)]
        matched = match_keys(*shapes, "stock")
        model.load_state_dict({name: theirs[name] for name in matched.loaded}, strict=False)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SMALL, DEEP], ids=["small", "deep"])
@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 5), (2, 4), (3, 8)])
@torch.no_grad()
def test_a_new_network_equals_diffusers_with_a_zero_image_embedding(shape, clips, frames):
    source = stock(shape)
    noisy, reference, noise_input, conditions = inputs(shape, clips, frames)
    concatenated = torch.cat([noisy, reference[:, None].expand(-1, frames, -1, -1, -1)], 2)
    no_image, added = torch.zeros(clips, 1, shape.token_width), torch.tensor([ADDED_TIME_IDS]).repeat(clips, 1)
    out = ours(shape, source=source)(noisy, reference, noise_input, conditions)
    torch.testing.assert_close(out, source(concatenated, noise_input, no_image, added).sample, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("branches", "kept"),
    [
        (Branches(lip=False), TOKENS[1:]),
        (Branches(expression=False), TOKENS[:1]),
        (Branches(share_weights=False), TOKENS),
    ],
    ids=["wo_lip", "wo_exp", "separate"],
)
@torch.no_grad()
def test_ablated_networks_start_equal_and_ignore_removed_conditions(branches, kept):
    source = stock(SMALL)
    *given, conditions = inputs(SMALL, 2)
    full, ablated = ours(SMALL, source=source), ours(SMALL, branches, source)
    torch.testing.assert_close(ablated(*given, conditions), full(*given, conditions))
    before = awake(ablated)(*given, conditions)
    for name in TOKENS:
        value = getattr(conditions, name)
        after = ablated(*given, replace(conditions, **{name: value.roll(1, 0) + torch.randn_like(value)}))
        assert torch.equal(before, after) == (name not in kept), name


@torch.no_grad()
def test_conditions_of_a_later_frame_affect_every_frame():
    """Unlike in diffusers, whose temporal blocks receive the conditions of frame 0 only."""
    *given, conditions = inputs(SMALL, frames=6)
    model = awake(ours(SMALL)).eval()
    timeline = conditions.timeline.clone()
    timeline[:, 5] += 1
    before, after = model(*given, conditions), model(*given, replace(conditions, timeline=timeline))
    assert ((after - before).abs().amax((2, 3, 4)) > 1e-4).all()


@torch.no_grad()
def test_an_absent_condition_equals_zero_projections():
    """Without lip tokens, as in mode ``expression``, the network equals one with zero lip projections."""
    *given, conditions = inputs(SMALL)
    model = awake(ours(SMALL))
    without = model(*given, replace(conditions, lip=None))
    assert not torch.allclose(without, model(*given, conditions), atol=1e-4)
    for name, parameter in model.named_parameters():
        if ".transformer_blocks.0.attn2.to_out.0.weight" in name and "temporal" not in name:
            parameter.zero_()
    torch.testing.assert_close(without, model(*given, conditions))


def step(model):
    model.zero_grad()
    loss = model(*inputs(model.shape, 2, 3)).square().mean()
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.slow
def test_checkpointing_changes_neither_loss_nor_gradients():
    model = awake(ours(DEEP))
    model.checkpointing = False
    loss, gradients = step(model)
    model.checkpointing = True
    again, recomputed = step(model)
    assert torch.equal(loss, again)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, recomputed[name]), name


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # tracing takes a minute of a core
def test_compiled_segments_give_the_same_result_for_every_length():
    """After a few lengths, others need no new graph."""
    plain, compiled, graphs = awake(UNet(ONE_LEVEL)), UNet(ONE_LEVEL), []
    compiled.load_state_dict(plain.state_dict())

    def counting(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled.compile_segments(counting)
    counts = []
    for frames in (5, 7, 6, 11, 9, 13):
        given, found = inputs(ONE_LEVEL, 1, frames), []
        for model in (plain, compiled):
            model.zero_grad()
            out = model(*given)
            out.square().mean().backward()
            found.append([out, *(parameter.grad for parameter in model.parameters())])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        counts.append(len(graphs))
    assert counts[-1] == counts[-3] > 0, counts


def test_every_parameter_has_a_gradient():
    _, gradients = step(awake(ours(DEEP)))
    assert [name for name, gradient in gradients.items() if not gradient.abs().sum() > 0] == []


@pytest.mark.slow
def test_checkpointing_needs_a_fraction_of_the_memory():
    def peak(checkpointing):
        model, given = ours(SMALL, checkpointing=checkpointing), inputs(SMALL, frames=16, side=16)
        with PeakMemory() as memory:
            model(*given).square().mean().backward()
        return memory.peak

    assert peak(True) < 0.4 * peak(False)


def test_invalid_shapes_are_rejected():
    model, (noisy, reference, noise_input, conditions) = ours(SMALL), inputs(SMALL)
    refuses(ValueError, "square", model, noisy[..., :4], reference[..., :4], noise_input, conditions)
    refuses(ValueError, "multiple of 2", model, noisy[..., :7, :7], reference[..., :7, :7], noise_input, conditions)
    conditions.regions.clear()
    refuses(ValueError, "no face mask for the U-Net's 8 x 8", model, noisy, reference, noise_input, conditions)
    refuses(ValueError, "3, 2 and 1 levels", UNetShape, channels=(32, 64, 64), heads=(1, 2), attention=(True,))
    refuses(ValueError, "multiple of 32", UNetShape, channels=(40,), heads=(1,), attention=(True,))


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [True, False], ids=["autocast", "bfloat16"])
def test_bfloat16_is_close_to_float32(mixed):
    model = awake(ours(SMALL))
    noisy, reference, noise_input, conditions = inputs(SMALL, 2)
    with torch.no_grad():
        expected = model(noisy, reference, noise_input, conditions)
    if mixed:
        with torch.autocast("cpu", torch.bfloat16):
            out = model(noisy, reference, noise_input, conditions)
    else:
        halves = {name: getattr(conditions, name).bfloat16() for name in TOKENS}
        out = model.bfloat16()(noisy.bfloat16(), reference, noise_input, replace(conditions, **halves))
    assert (out - expected).norm() < 0.05 * expected.norm()
    out.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
