"""TAEF2 with the published weights on real faces."""

import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders.codecs import taef2
from encoders.codecs.taef2 import TAEF2Codec
from encoders.weights import WrongWeights
from media import read_frames
from runtime.files import sha256_of
from tests.helpers.refusals import refuses

VIDEOS = ("hdtf_WDA_AOC_000.mp4", "hdtf_RD_Radio10_0_clip_0.mp4", "latentsync_demo1.mp4")


@pytest.fixture
def codec(asset_weights):
    return TAEF2Codec()


def frames_of(path, count, size):
    """Reads the first frames of a video, cropped to the central square: (count, 3, size, size) uint8."""
    frames = torch.from_numpy(np.stack(list(islice(read_frames(path), count)))).permute(0, 3, 1, 2).float()
    side = min(frames.shape[2:])
    top, left = (frames.shape[2] - side) // 2, (frames.shape[3] - side) // 2
    square = frames[:, :, top : top + side, left : left + side]
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()


def psnr(a, b):
    return float(10 * torch.log10(255**2 / (a.float() - b.float()).square().mean()))


@pytest.mark.slow
@pytest.mark.parametrize("video", VIDEOS)
def test_real_frames_are_reconstructed(codec, assets, video):
    frames = frames_of(assets / "data" / "video" / video, 1, 256)
    latents = codec.encode(frames)
    assert latents.shape == (1, codec.channels, 32, 32)
    assert 0.7 < latents.std() * codec.scale < 1.2  # suitable for a diffusion model
    decoded = codec.decode(latents.half())
    assert decoded.shape == frames.shape
    assert decoded.dtype == torch.uint8
    assert psnr(decoded, frames) > 30
    blurred = F.interpolate(F.interpolate(frames.float(), 64, mode="area"), 256, mode="bicubic").clamp(0, 255)
    assert psnr(decoded, frames) > psnr(blurred, frames) + 2  # keeps detail


def test_plain_colours_are_reconstructed(codec):
    """A wrong order of channels or range of values would change plain colours."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], dtype=torch.uint8)
    frames = colours[:, :, None, None].expand(-1, -1, 64, 64)
    decoded = codec.decode(codec.encode(frames)).float().mean((2, 3))
    assert (decoded - colours.float()).abs().max() < 20


@pytest.mark.slow
def test_frames_are_coded_independently(codec, assets, monkeypatch):
    frames = frames_of(assets / "data" / "video" / VIDEOS[0], 5, 64)
    latents, decoded = codec.encode(frames), codec.decode(codec.encode(frames))
    sizes = []
    codec.encoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    monkeypatch.setattr(taef2, "PIXELS_AT_ONCE", 2 * 64 * 64)
    torch.testing.assert_close(codec.encode(frames), latents, atol=1e-4, rtol=1e-4)
    assert sizes == [2, 2, 1]
    assert (codec.decode(latents).int() - decoded.int()).abs().max() <= 1
    torch.testing.assert_close(codec.encode(frames[3:4]), latents[3:4], atol=1e-4, rtol=1e-4)


def test_network_is_frozen(codec, asset_weights):
    files = "taef2_encoder.pth", "taef2_decoder.pth"
    assert codec.identity.weights == {name: sha256_of(asset_weights / name) for name in files}
    assert not codec.encode(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).requires_grad
    refuses(ValueError, "multiple of 8", codec.encode, torch.zeros(1, 3, 60, 64, dtype=torch.uint8))


def test_swapped_files_are_refused(asset_weights, tmp_path, monkeypatch):
    shutil.copy(asset_weights / "taef2_decoder.pth", tmp_path / "taef2_encoder.pth")
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path))
    refuses(WrongWeights, r"taef2_encoder\.pth", TAEF2Codec)


def test_architecture_has_the_published_size():
    """The files have float16 values and a small header."""
    for network, size in ((taef2.build_encoder(), 2_704_692), (taef2.build_decoder(), 2_704_756)):
        payload = 2 * sum(p.numel() for p in network.parameters())
        assert 0 < size - payload < 32_768


@pytest.mark.slow
def test_stream_equals_decode(codec, monkeypatch):
    latents = torch.randn(9, codec.channels, 16, 16)
    whole = codec.decode(latents)
    monkeypatch.setattr(taef2, "PIXELS_AT_ONCE", 4 * 128 * 128)
    pieces = list(codec.decode_stream(latents.split(5), 9))
    assert [len(piece) for piece in pieces] == [4, 4, 1]
    assert [len(piece) for piece in codec.decode_stream(latents.split(5), 9, 2)] == [2] * 4 + [1]
    assert (torch.cat(pieces).int() - whole.int()).abs().max() <= 1  # rounding in convolutions depends on the batch
