"""The patch codec is lossless, even with float16 latents."""

import pytest
import torch

from encoders.codecs.patch import PatchCodec


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_lossless_in_float16(patch):
    frames = torch.arange(256, dtype=torch.uint8).repeat(3, 16).reshape(1, 3, 64, 64)
    latents = PatchCodec(patch).encode(frames)
    assert latents.dtype == torch.float32
    assert latents.abs().max() == 1
    assert torch.equal(PatchCodec(patch).decode(latents.half()), frames)


def test_shapes_match_the_attributes():
    codec = PatchCodec()
    frames = torch.randint(0, 256, (5, 3, 32, 64), dtype=torch.uint8)
    latents = codec.encode(frames)
    assert latents.shape == (5, codec.channels, 32 // codec.downscale, 64 // codec.downscale)
    assert torch.equal(codec.decode(latents), frames)


def test_latent_position_is_a_patch_of_pixels():
    codec = PatchCodec(4)
    frames = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    frames[:, :, 8:12, 4:8] = 255
    assert torch.equal(codec.encode(frames)[0, :, 2, 1], torch.ones(48))
    assert (codec.encode(frames) == 1).sum() == 48


def test_a_stream_equals_decode():
    codec, latents = PatchCodec(2), torch.rand(37, 12, 3, 3) * 2 - 1
    for at_once, sizes in ((None, [16, 16, 5]), (10, [10, 10, 10, 7]), (99, [16, 16, 5])):
        pieces = list(codec.decode_stream(latents.split(7), 37, at_once))
        assert [len(piece) for piece in pieces] == sizes
        assert torch.equal(torch.cat(pieces), codec.decode(latents))


def test_out_of_range_latents_are_clipped():
    for value, byte in ((1.7, 255), (-3.0, 0)):
        assert (PatchCodec(2).decode(torch.full((1, 12, 2, 2), value)) == byte).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(1, 3, 30, 32, dtype=torch.uint8), "multiple of 4.*32x30"),
        (torch.zeros(1, 3, 32, 32), "uint8.*float32"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"found \(3, 32, 32\)"),
        (torch.zeros(0, 3, 32, 32, dtype=torch.uint8), "F > 0"),
    ],
)
def test_other_frames_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        PatchCodec().encode(frames)


def test_patch_must_be_positive():
    with pytest.raises(ValueError, match=r"options\.patch"):
        PatchCodec(0)
