"""Audio-to-lip projector: a lip latent depends on five audio frames of its own clip and nothing else."""

import pytest
import torch

from encoders.audio.mel import MelEncoder
from lightning_modules.vaid.audio_to_lip import AudioToLip, audio_windows
from tests.helpers.steps import descend

L, D, D_L = 4, 80, 12


@pytest.fixture
def projector() -> AudioToLip:
    torch.manual_seed(0)
    return AudioToLip(L, D, D_L, width=64, depth=2, latents=2, head_width=32).eval()


def full(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


def test_windows_repeat_the_ends_of_the_clip_and_contain_no_padding():
    audio = torch.arange(1, 7.0).repeat(2, 1)[..., None, None]
    mask = full(2, 6)
    mask[1, 4:] = False
    windows = audio_windows(audio, mask).squeeze((-1, -2))
    assert windows[0].tolist() == [
        [1, 1, 1, 2, 3], [1, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 6], [4, 5, 6, 6, 6],
    ]  # fmt: skip
    assert windows[1, :4].tolist() == [[1, 1, 1, 2, 3], [1, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]
    assert windows[1, 4:].max() == 4


@torch.no_grad()
def test_receptive_field_is_two_frames_on_either_side(projector):
    audio = torch.randn(1, 20, L, D)
    changed = audio.clone()
    changed[:, 10] += 1
    moved = (projector(changed, full(1, 20)) != projector(audio, full(1, 20))).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


@torch.no_grad()
@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_padding_has_no_effect(projector, padding):
    audio = torch.randn(1, 9, L, D)
    padded = torch.cat([audio, torch.full((1, 5, L, D), padding)], dim=1)
    mask = torch.arange(14)[None] < 9
    torch.testing.assert_close(projector(padded, mask)[:, :9], projector(audio, full(1, 9)))


@torch.no_grad()
def test_order_in_the_window_and_the_layer_matter(projector):
    audio = torch.randn(1, 5, L, D)
    middle = projector(audio, full(1, 5))[:, 2]
    assert not torch.allclose(projector(audio.flip(1), full(1, 5))[:, 2], middle, atol=1e-4)
    assert not torch.allclose(projector(audio.flip(2), full(1, 5))[:, 2], middle, atol=1e-4)


@torch.no_grad()
def test_delayed_audio_delays_the_lips(projector):
    samples = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    mel = MelEncoder()
    now = projector(mel(samples)[None], full(1, 25))
    later = projector(mel(torch.cat([torch.zeros(640), samples]))[None], full(1, 26))
    torch.testing.assert_close(later[:, 4:-3], now[:, 3:-3], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.1, 120.0])
def test_any_length_is_accepted(projector, seconds):
    frames = round(seconds * 25)
    out = projector(torch.randn(1, frames, L, D), full(1, frames))
    assert out.shape == (1, frames, D_L)
    assert out.isfinite().all()


@pytest.mark.slow
def test_projector_can_overfit_one_clip(projector):
    audio, target = torch.randn(1, 30, L, D), torch.randn(1, 30, D_L)
    optimizer = torch.optim.Adam(projector.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = (projector(audio, full(1, 30)) - target).square().mean()
        descend(optimizer, loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100


def test_a_width_not_divisible_by_head_width_is_rejected():
    with pytest.raises(ValueError, match="head_width 64 does not divide width 96"):
        AudioToLip(L, D, D_L, width=96)
