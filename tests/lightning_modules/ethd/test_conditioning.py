"""The conditioning blocks, before and after training steps."""

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.ethd.conditioning import (
    CrossAttention,
    ExpressionDecouplingInjector,
    ExpressionTemporalAttention,
    LipAttention,
    TimelineKeys,
    TokenProjector,
    expression_regions,
)
from tests.helpers.refusals import refuses
from tests.helpers.steps import descend

B, FRAMES, SIDE, C, HEADS, N, D = 2, 3, 8, 64, 2, 4, 32
L = SIDE * SIDE


@pytest.fixture
def region():
    boxes = torch.tensor([[[30, 70, 60, 90], [10, 10, 90, 110]], [[50, 60, 90, 80], [20, 0, 128, 100.0]]])
    return expression_regions(boxes, (128, 128), [SIDE])[SIDE]


def trained(module, *inputs):
    """Trains a module for a few random steps, so that no parameter is zero."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(3):
        out = module(*inputs)
        descend(optimizer, (out * torch.randn_like(out)).sum())
    return module


def hidden_and_tokens(n=N):
    torch.manual_seed(0)
    return torch.randn(B * FRAMES, L, C), torch.randn(B * FRAMES, n, D), torch.randn(B * FRAMES, n, D)


@pytest.mark.parametrize("share_weights", [True, False])
def test_the_injector_is_bit_identical_outside_the_face(region, share_weights):
    hidden, e_dri, e_ref = hidden_and_tokens()
    injector = ExpressionDecouplingInjector(C, HEADS, D, share_weights)
    assert torch.equal(injector(hidden, e_dri, e_ref, region), hidden)  # the identity before training
    out = trained(injector, hidden, e_dri, e_ref, region)(hidden, e_dri, e_ref, region)
    outside = region.repeat_interleave(FRAMES, 0).flatten(0, 1).squeeze(-1) == 0
    assert torch.equal(out[outside], hidden[outside])
    assert (out - hidden)[~outside].abs().min(-1).values.max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_expressions_cancel_exactly(region, dtype):
    hidden, e_dri, e_ref = hidden_and_tokens()
    injector = trained(ExpressionDecouplingInjector(C, HEADS, D), hidden, e_dri, e_ref, region).to(dtype)
    hidden, e_dri = hidden.to(dtype), e_dri.to(dtype)
    assert torch.equal(injector(hidden, e_dri, e_dri.clone(), region), hidden)
    assert not torch.equal(injector(hidden, e_dri, e_ref.to(dtype), region), hidden)


def test_equal_expressions_do_not_cancel_with_separate_weights(region):
    hidden, e_dri, e_ref = hidden_and_tokens()
    injector = trained(ExpressionDecouplingInjector(C, HEADS, D, share_weights=False), hidden, e_dri, e_ref, region)
    assert not torch.allclose(injector(hidden, e_dri, e_dri, region), hidden, atol=1e-3)


def test_the_injector_equals_equation_9(region):
    """Compared with two explicit cross-attentions that are projected separately and then subtracted."""
    hidden, e_dri, e_ref = hidden_and_tokens()
    injector = trained(ExpressionDecouplingInjector(C, HEADS, D), hidden, e_dri, e_ref, region)
    weights, normed = injector.attention, F.layer_norm(hidden, (C,), injector.norm.weight, injector.norm.bias)

    def attention(tokens):
        parts = []
        queries = (normed @ weights.to_q.weight.T).chunk(HEADS, -1)
        keys, values = ((tokens @ to.weight.T).chunk(HEADS, -1) for to in (weights.to_k, weights.to_v))
        for query, key, value in zip(queries, keys, values, strict=True):
            scores = query @ key.transpose(1, 2) / (C // HEADS) ** 0.5
            parts.append(scores.softmax(-1) @ value)
        return torch.cat(parts, -1) @ weights.to_out[0].weight.T

    mask = region.repeat_interleave(FRAMES, 0).flatten(0, 1)
    expected = hidden + (attention(e_dri) - attention(e_ref)) * mask
    torch.testing.assert_close(injector(hidden, e_dri, e_ref, region), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("tokens", "constant"), [(1, True), (2, False), (8, False)])
def test_attention_over_one_key_ignores_the_query(tokens, constant):
    """This is why several tokens per latent are required."""
    hidden, e_dri, _ = hidden_and_tokens(tokens)
    attention = CrossAttention(C, HEADS, D)
    out = attention.attend(attention.query(hidden), e_dri)
    out.square().sum().backward()
    spread, gradient = out.std(1).max().item(), attention.to_q.weight.grad.abs().max().item()
    assert spread < 1e-6 if constant else spread > 1e-3
    assert gradient < 1e-4 if constant else gradient > 1


def test_one_token_is_rejected(region):
    hidden, one, _ = hidden_and_tokens(1)
    refuses(ValueError, "lip: one token", LipAttention(C, HEADS, D), hidden, one)
    refuses(ValueError, "expression: one token", ExpressionDecouplingInjector(C, HEADS, D), hidden, one, one, region)


@pytest.fixture
def over_time(region):
    """A trained temporal attention with its training inputs."""
    torch.manual_seed(0)
    hidden, timeline = torch.randn(B * L, FRAMES, C), torch.randn(B, FRAMES, D)
    return trained(ExpressionTemporalAttention(C, HEADS, D), hidden, timeline, region), hidden, timeline


def test_temporal_attention_outside_the_face_is_svds_output_bias(region, over_time):
    attention, hidden, timeline = over_time
    out = attention(hidden, timeline, region)
    outside = region.flatten() == 0
    bias = attention.to_out[0].bias.expand(int(outside.sum()), FRAMES, C)
    assert bias.abs().max() > 0.01
    assert torch.equal(out[outside], bias)
    assert not torch.allclose(out[~outside], attention.to_out[0].bias.expand_as(out[~outside]), atol=1e-2)


def test_temporal_attention_reads_every_frame_at_every_position(region, over_time):
    """Compared with keys that are repeated explicitly for every position of the clip."""
    attention, hidden, timeline = over_time
    everywhere = torch.ones_like(region)
    found = attention.attend(attention.query(hidden), timeline.repeat_interleave(L, 0))
    torch.testing.assert_close(attention(hidden, timeline, everywhere), attention.to_out[0](found))
    last = timeline.clone()
    last[:, -1] += 1
    change = attention(hidden, last, everywhere) - attention(hidden, timeline, everywhere)
    assert (change[:, 0].abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("side", [8, 3])  # 32 groups of positions, and one
def test_temporal_attention_in_groups_has_the_gradients_of_one_attention(side):
    torch.manual_seed(0)
    hidden, everywhere = torch.randn(B * side**2, FRAMES, C, dtype=torch.float64), torch.ones(B, 1, side**2, 1)
    timeline = torch.randn(B, FRAMES, D, dtype=torch.float64, requires_grad=True)
    attention = ExpressionTemporalAttention(C, HEADS, D).double()
    trained(attention, hidden, timeline, everywhere)
    query = attention.query(hidden.unflatten(0, (B, -1)).flatten(1, 2))
    whole = attention.project(attention.attend(query, timeline)).unflatten(1, (-1, FRAMES)).flatten(0, 1)
    weights = [timeline, *attention.parameters()]
    outs = [attention(hidden, timeline, everywhere), whole]
    torch.testing.assert_close(*outs)
    for one, other in zip(*(torch.autograd.grad(out.square().sum(), weights) for out in outs), strict=True):
        torch.testing.assert_close(one, other)


def test_tokens_and_keys_of_a_constant_latent_differ():
    torch.manual_seed(0)
    tokens = TokenProjector(5, N, D)(torch.zeros(B, FRAMES, 5))
    assert tokens.shape == (B * FRAMES, N, D)
    assert torch.pdist(tokens[0]).min() > 1
    keys = TimelineKeys(5, D)(torch.zeros(B, FRAMES, 5))
    assert keys.shape == (B, FRAMES, D)
    assert torch.pdist(keys[0]).min() > 0.5


def test_regions_contain_the_face_without_the_lips():
    boxes = torch.tensor([[[16.0, 40, 32, 48], [8, 8, 56, 56]]])
    regions = expression_regions(boxes, (64, 64), [64, 8])
    grid = regions[64].view(64, 64)
    assert grid[8:56, 8:56].sum() == grid.sum() == 48 * 48 - 16 * 8
    assert grid[40:48, 16:32].sum() == 0
    assert regions[8].view(8, 8)[5, 2:4].sum() == 0
    assert regions[8].sum() == 36 - 2
