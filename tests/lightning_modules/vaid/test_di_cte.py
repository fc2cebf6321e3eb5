"""Di-CTE: relative positions, no effect of padding, conditions that reach every frame, and all modes."""

import pytest
import torch

from lightning_modules.vaid.di_cte import DiCTE, neighbours, rotate, rotation

L, D, D_E, N = 4, 16, 6, 20
MODES = [("add", "adaln"), ("cross_attn", "adaln"), ("add", "cross_attn"), ("cross_attn", "cross_attn")]


def make(audio_mode: str = "add", condition_mode: str = "adaln") -> DiCTE:
    torch.manual_seed(0)
    network = DiCTE(
        L, D, D_E, width=32, depth=2, head_width=16, identity_widths=(8, 16), identity_size=32,
        audio_mode=audio_mode, condition_mode=condition_mode, droppable=True,
    ).eval()  # fmt: skip
    for parameter in network.parameters():  # open the zero-initialised gates, as training does
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


class Inputs:
    def __init__(self, clips: int = 1, frames: int = N) -> None:
        noise = torch.Generator().manual_seed(1)
        self.noisy = torch.randn(clips, frames, D_E, generator=noise)
        self.audio = torch.randn(clips, frames, L, D, generator=noise)
        self.portrait = torch.randint(0, 256, (clips, 64, 64, 3), generator=noise, dtype=torch.uint8)
        self.e_cond = torch.randn(clips, D_E, generator=noise)
        self.t = torch.full((clips,), 300)
        self.mask = torch.ones(clips, frames, dtype=torch.bool)

    def run(self, network: DiCTE, **other) -> torch.Tensor:
        around = network.surroundings(self.audio, self.portrait, self.mask)
        return network(self.noisy, self.t, around, self.e_cond, **other)


@torch.no_grad()
@pytest.mark.parametrize("modes", MODES)
def test_every_input_affects_every_frame(modes):
    network = make(*modes)
    before = Inputs().run(network)
    assert before.shape == (1, N, D_E)
    for name, other in {
        "audio": torch.randn(1, N, L, D),
        "portrait": torch.zeros(1, 64, 64, 3, dtype=torch.uint8),
        "e_cond": torch.randn(1, D_E),
        "t": torch.tensor([900]),
        "noisy": torch.randn(1, N, D_E),
    }.items():
        inputs = Inputs()
        setattr(inputs, name, other)
        assert ((inputs.run(network) - before).abs().amax(-1) > 1e-5).all(), name


@torch.no_grad()
@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("padding", [0.0, 1e3])
def test_padding_and_other_clips_have_no_effect(modes, padding):
    network, alone, both = make(*modes), Inputs(frames=13), Inputs(clips=2)
    for name in ("noisy", "audio"):
        getattr(both, name)[0] = padding
        getattr(both, name)[0, :13] = getattr(alone, name)[0]
    both.portrait[0], both.e_cond[0], both.mask[0, 13:] = alone.portrait[0], alone.e_cond[0], False
    torch.testing.assert_close(both.run(network)[:1, :13], alone.run(network), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_constant_input_gives_constant_output():
    """Positions are relative, so no frame differs from another."""
    network, inputs = make(), Inputs()
    inputs.noisy, inputs.audio = inputs.noisy[:, :1].repeat(1, N, 1), inputs.audio[:, :1].repeat(1, N, 1, 1)
    out = inputs.run(network)
    torch.testing.assert_close(out, out[:, :1].expand_as(out), atol=1e-5, rtol=1e-4)


def test_rotary_embedding_keeps_norms_and_depends_on_distance_only():
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    factors = rotation(30, 16, torch.device("cpu"))
    queries, keys = rotate(query.expand(1, 1, 30, 16), factors), rotate(key.expand(1, 1, 30, 16), factors)
    torch.testing.assert_close(queries.norm(dim=-1), query.norm().expand(1, 1, 30))
    scores = (queries @ keys.transpose(-1, -2))[0, 0]
    for distance in (-7, 0, 3):
        band = scores.diagonal(distance)
        torch.testing.assert_close(band, band[:1].expand_as(band), atol=1e-5, rtol=0)  # angles are float32
    assert scores[0].std() > 0.1


def test_neighbours_are_adjacent_and_not_padding():
    mask = torch.tensor([[True, True, True, False]])
    assert neighbours(mask)[0, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


@torch.no_grad()
def test_a_dropped_condition_has_no_effect():
    network, inputs = make(), Inputs()
    dropped = torch.tensor([True])
    without = inputs.run(network, dropped=dropped)
    assert not torch.allclose(without, inputs.run(network))
    inputs.e_cond = inputs.e_cond + 1
    assert torch.equal(inputs.run(network, dropped=dropped), without)


def test_every_parameter_has_a_gradient():
    for modes in MODES:
        network, inputs = make(*modes), Inputs()
        inputs.run(network).square().sum().backward()
        without_gradient = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
        assert without_gradient == {"no_condition"}
