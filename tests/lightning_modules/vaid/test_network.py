"""Sampling from V-AID: determinism by seed, independence of batch and length, guidance, and overfitting one clip."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from configs.models import ExpressionConfig, LipConfig, VAIDConfig
from datamodules.schema import Dimensions
from diffusion.ddim import ddim_sample
from lightning_modules.vaid.di_cte import DiCTE
from lightning_modules.vaid.network import VAID, Standardiser
from lightning_modules.vaid.statistics import MotionStatistics
from tests.helpers.steps import descend

SIZES = Dimensions(latent_channels=4, latent_size=4, audio_layers=2, audio_width=8, lip_width=5, expression_width=3)


def make(**changes) -> VAID:
    torch.manual_seed(0)
    config = VAIDConfig(
        lip=LipConfig(width=32, depth=1, latents=2, head_width=16),
        expression=ExpressionConfig(width=32, depth=2, head_width=16, identity_widths=[8], identity_size=16),
        **{"window": 40, "overlap": 8, "sampling_steps": 5, **changes},
    )
    vaid = VAID(config, SIZES)
    for block in vaid.di_cte.blocks:  # open the zero-initialised gates, as training does
        torch.nn.init.normal_(block.modulate[1].weight, std=0.3)
    return vaid


def clip(frames: int, clips: int = 1, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    portrait = torch.randint(0, 256, (clips, 32, 32, 3), generator=noise, dtype=torch.uint8)
    return torch.randn(clips, frames, 2, 8, generator=noise), portrait, torch.randn(clips, 3, generator=noise)


@pytest.mark.parametrize("frames", [3, 25, 100])
def test_samples_depend_on_the_seed_only(frames):
    vaid, inputs = make(), clip(frames)
    first = vaid.sample_expression(*inputs, [7])
    assert first.shape == (1, frames, 3)
    torch.manual_seed(123)
    assert torch.equal(vaid.sample_expression(*inputs, [7]), first)
    assert (vaid.sample_expression(*inputs, [8]) - first).abs().mean() > 1e-4


@pytest.mark.parametrize("frames", [38, 60])  # within one window, and in several
def test_other_clips_and_padding_have_no_effect(frames):
    vaid = make()
    (audio, portrait, e_cond), other = clip(25), clip(frames, seed=2)
    mask = torch.ones(2, frames, dtype=torch.bool)
    mask[0, 25:] = False
    padded = torch.nn.functional.pad(audio, (0, 0, 0, 0, 0, frames - 25))
    together = [torch.cat(pair) for pair in zip((padded, portrait, e_cond), other, strict=True)]
    both = vaid.sample_expression(*together, [7, 8], mask)
    alone = vaid.sample_expression(audio, portrait, e_cond, [7])
    torch.testing.assert_close(both[:1, :25], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both[1:], vaid.sample_expression(*other, [8]), atol=1e-4, rtol=1e-4)
    changed = audio.clone()
    changed[:, 24] += 1  # the last frame affects the first, so a leak of padding would be detected
    assert (vaid.sample_expression(changed, portrait, e_cond, [7])[:, 0] - alone[:, 0]).abs().max() > 1e-4


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.1, 120.0])
def test_short_and_long_audio_is_accepted(seconds):
    frames = -(-int(seconds * 100) // 4)
    vaid, (audio, portrait, e_cond) = make(), clip(frames)
    assert vaid.lip(audio).shape == (1, frames, 5)
    e_a = vaid.sample_expression(audio, portrait, e_cond, [0])
    assert e_a.shape == (1, frames, 3)
    assert e_a.isfinite().all()


@torch.no_grad()
def test_chunked_lip_prediction_equals_one_pass():
    vaid, (audio, _, _) = make(), clip(2503, clips=3)
    mask = torch.ones(3, 2503, dtype=torch.bool)
    mask[1, 1001:], mask[2, 999:] = False, False  # clips that end next to the border of a chunk
    whole = vaid.audio_to_lip(audio, mask)
    torch.testing.assert_close(vaid.lip(audio, mask)[mask], whole[mask], atol=1e-5, rtol=1e-5)


def test_the_network_never_processes_more_than_a_window(monkeypatch):
    vaid, seen = make(), []
    denoise = vaid.di_cte.denoise
    monkeypatch.setattr(vaid.di_cte, "denoise", lambda x, *a, **k: seen.append(x.shape[1]) or denoise(x, *a, **k))
    vaid.sample_expression(*clip(3000), [0], steps=1)
    assert set(seen) == {40}


@pytest.mark.slow
def test_an_overfitted_clip_is_sampled_back():
    """Training lowers the error at every noise level 100-fold; the sample is then as close to the truth."""
    vaid, (audio, portrait, e_cond) = make(sampling_steps=10), clip(30)
    truth = torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(8, 30, dtype=torch.bool)
    optimizer = torch.optim.Adam(vaid.di_cte.parameters(), 3e-3)
    noise = torch.Generator().manual_seed(4)

    def error(t: torch.Tensor) -> torch.Tensor:
        noisy = vaid.schedule.add_noise(truth.expand(8, -1, -1), torch.randn(8, 30, 3, generator=noise), t)
        around = vaid.di_cte.surroundings(audio.expand(8, -1, -1, -1), portrait.expand(8, -1, -1, -1), mask)
        return (vaid.di_cte(noisy, t, around, e_cond.expand(8, -1)) - truth).square().mean()

    levels = torch.linspace(0, 999, 8).long()
    before = error(levels).item()
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 500)
        descend(optimizer, error(torch.randint(0, 1000, (8,), generator=noise)))
    assert error(levels).item() < before / 100
    sampled = vaid.sample_expression(audio, portrait, e_cond, [0])
    assert (sampled - truth).square().mean() < before / 100


def test_guidance_extrapolates_from_the_unconditioned_sample():
    vaid, inputs = make(condition_dropout=0.1), clip(20)
    plain, guided = (vaid.sample_expression(*inputs, [0], guidance=scale) for scale in (1.0, 3.0))
    assert torch.equal(plain, vaid.sample_expression(*inputs, [0]))
    assert not torch.allclose(plain, guided)
    audio, portrait, _ = inputs
    unconditioned = vaid.sample_expression(audio, portrait, vaid.di_cte.no_condition[None], [0], steps=1)
    one, three = (vaid.sample_expression(*inputs, [0], steps=1, guidance=scale) for scale in (1.0, 3.0))
    torch.testing.assert_close(three, unconditioned + 3 * (one - unconditioned), atol=1e-5, rtol=1e-4)


def test_guidance_requires_condition_dropout_in_training():
    with pytest.raises(ValueError, match=r"guidance 2\.0: expected 1, since model\.condition_dropout was 0"):
        make().sample_expression(*clip(5), [0], guidance=2.0)


def test_every_clip_needs_a_seed():
    with pytest.raises(ValueError, match="seeds: found 1 for 2 clips, expected one per clip"):
        make().sample_expression(*clip(5, clips=2), [0])


def test_standardiser_and_its_inverse():
    scale = Standardiser(3)
    x = torch.randn(1000, 3) * torch.tensor([2.0, 30.0, 0.0]) + torch.tensor([5.0, -7.0, 1.0])
    scale.set(x.mean(0).tolist(), x.std(0).tolist())
    torch.testing.assert_close(scale(x)[:, :2].std(0), torch.ones(2))
    torch.testing.assert_close(scale(x)[:, 2], torch.zeros(1000))  # a constant dimension is not amplified
    torch.testing.assert_close(scale.restore(scale(x)), x)


def test_statistics_are_part_of_the_state_dict():
    vaid, again = make(), make()
    vaid.set_statistics(MotionStatistics((1.0,) * 5, (2.0,) * 5, (3.0,) * 3, (4.0,) * 3))
    again.load_state_dict(vaid.state_dict())
    assert again.expression_scale(torch.tensor([7.0] * 3)).tolist() == [1.0] * 3


# Calls that start nothing on a device: views, allocations, and operators that only call another one.
CALLS_ONLY = (
    "view t transpose permute slice narrow select expand unsqueeze split chunk unbind as_strided alias detach "
    "_reshape_alias _unsafe_view reshape flatten unflatten contiguous resolve_conj resolve_neg to empty empty_strided "
    "empty_like new_empty new_ones fill_ linear layer_norm scaled_dot_product_attention conv2d convolution "
    "_convolution group_norm"
)


def test_sampling_an_expression_at_the_papers_size_takes_at_most_6000_operators():
    """In 25 steps; the number does not depend on the frames. An earlier version took 20,389 by the same count."""
    network = VAID(VAIDConfig(), Dimensions(4, 64, 12, 768, 512, 30)).eval()
    portrait = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    counts = []
    for frames in (2, 4):
        with profile(activities=[ProfilerActivity.CPU]) as taken:
            network.sample_expression(torch.randn(1, frames, 12, 768), portrait, torch.zeros(1, 30), [0], steps=25)
        calls = [event.name.removeprefix("aten::") for event in taken.events() if event.name.startswith("aten::")]
        counts.append(sum(name not in CALLS_ONLY.split() for name in calls))
    assert counts[0] == counts[1] <= 6000


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("mode", ["adaln", "cross_attn"])
def test_modulations_of_all_steps_at_once_are_those_of_each_step(mode, guidance):
    vaid = make(condition_dropout=0.1, guidance=guidance)
    vaid.di_cte = DiCTE(2, 8, 3, width=32, depth=2, head_width=16, identity_widths=[8], identity_size=16,
                        condition_mode=mode, droppable=True)  # fmt: skip
    torch.nn.init.normal_(vaid.di_cte.no_condition)
    for block in vaid.di_cte.blocks:
        torch.nn.init.normal_(block.modulate[1].weight, std=0.3)
    audio, portrait, e_cond = clip(20, clips=2)
    around = vaid.di_cte.surroundings(audio, portrait, torch.ones(2, 20, dtype=torch.bool), padded=False)

    def predict(x, t):
        steps, every = torch.full((2,), t), torch.ones(2, dtype=torch.bool)
        conditioned = vaid.di_cte(x, steps, around, e_cond)
        unconditioned = vaid.di_cte(x, steps, around, e_cond, dropped=every)
        return unconditioned + guidance * (conditioned - unconditioned)

    with torch.no_grad():
        expected = ddim_sample(predict, vaid.sequence_noise([3, 4], 20, [20, 20]), vaid.schedule, 5)
    torch.testing.assert_close(vaid.sample_expression(audio, portrait, e_cond, [3, 4]), expected)
