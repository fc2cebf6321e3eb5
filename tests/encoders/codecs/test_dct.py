"""The DCT codec: lossless with all frequencies, and with few of them the nearest picture that has only those."""

import pytest
import torch
from scipy.fft import dctn

from encoders.codecs.dct import COLOURS, DCTCodec


def noise(frames: int = 3, side: int = 32) -> torch.Tensor:
    """Frames of white noise."""
    return torch.randint(0, 256, (frames, 3, side, side), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_lossless_with_all_frequencies_even_in_float16(patch):
    codec, frames = DCTCodec(patch, patch**2, patch**2), noise()
    latents = codec.encode(frames)
    assert latents.dtype == torch.float32
    assert latents.shape == (3, codec.channels, 32 // patch, 32 // patch)
    assert torch.equal(codec.decode(latents), frames)
    assert (codec.decode(latents.half()).int() - frames).abs().max() <= 1


def test_coefficients_are_those_of_scipy():
    codec, frames = DCTCodec(4, 16, 16), noise(1, 8)
    latents = codec.encode(frames)[0].double()
    signed = frames[0].double() / 127.5 - 1
    order = sorted(range(16), key=lambda at: (at // 4 + at % 4, at % 4))
    for plane, colour in enumerate(COLOURS):
        patch = torch.einsum("c,cyx->yx", colour, signed)[4:, :4]
        expected = torch.from_numpy(dctn(patch.numpy(), norm="ortho")).flatten()[order]
        assert torch.allclose(latents[16 * plane : 16 * plane + 16, 1, 0], expected, atol=1e-5)


def test_few_frequencies_are_the_first_and_give_the_nearest_picture():
    whole, few, frames = DCTCodec(4, 16, 16), DCTCodec(4, 6, 1), noise()
    latents = whole.encode(frames)
    kept = latents[:, [*range(6), 16, 32]]
    assert few.channels == 8 == DCTCodec.announced(4, 6, 1)["channels"]
    assert torch.allclose(few.encode(frames), kept, atol=1e-6)
    # Another encode of what was decoded finds the same coefficients, up to the rounding and clipping of pixels.
    smooth = (128 + 30 * torch.rand(1, 3, 4, 4)).repeat_interleave(8, 2).repeat_interleave(8, 3).byte()
    once = few.decode(few.encode(smooth))
    assert torch.allclose(few.encode(once), few.encode(smooth), atol=0.04)


def test_a_stream_equals_decode():
    codec, latents = DCTCodec(4, 4, 1), torch.rand(37, 6, 3, 3) - 0.5
    for at_once, sizes in ((None, [16, 16, 5]), (10, [10, 10, 10, 7]), (99, [16, 16, 5])):
        pieces = list(codec.decode_stream(latents.split(7), 37, at_once))
        assert [len(piece) for piece in pieces] == sizes
        assert torch.equal(torch.cat(pieces), codec.decode(latents))


def test_it_computes_where_its_input_is():
    frames = torch.zeros(2, 3, 8, 8, dtype=torch.uint8, device="meta")
    latents = DCTCodec().encode(frames)
    assert (latents.device.type, DCTCodec().decode(latents).device.type) == ("meta", "meta")


def test_out_of_range_latents_are_clipped():
    for value, byte in ((9.0, 255), (-9.0, 0)):
        latents = torch.zeros(1, 19, 2, 2)
        latents[:, 0] = value
        assert (DCTCodec().decode(latents) == byte).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 0}, r"options\.patch: must be at least 1, found 0"),
        ({"luma": 17}, r"options\.luma: expected 1 to 16, the pixels of a patch of side 4, found 17"),
        ({"patch": 2, "luma": 4, "chroma": 0}, r"options\.chroma: expected 1 to 4, .* found 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DCTCodec(**options)


@pytest.mark.parametrize("frames", [torch.zeros(1, 3, 30, 32, dtype=torch.uint8), torch.zeros(1, 3, 32, 32)])
def test_other_frames_are_refused(frames):
    with pytest.raises(ValueError, match="multiple of 4|uint8"):
        DCTCodec().encode(frames)
