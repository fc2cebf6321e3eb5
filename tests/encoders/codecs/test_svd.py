"""SVD codec with a small autoencoder of the same class and random weights."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from encoders.codecs import svd
from encoders.codecs.svd import CHUNK, FADE, SVDCodec, chunk_starts
from encoders.weights import MissingWeights, WrongWeights
from runtime.files import sha256_of
from tests.helpers.pretrained import incomplete
from tests.helpers.refusals import refuses

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("svd") / "vae"
    torch.manual_seed(0)
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1, sample_size=32
    ).save_pretrained(path)
    return path


@pytest.fixture
def codec(folder):
    return SVDCodec(str(folder))


@pytest.fixture(scope="module")
def network(folder):
    return AutoencoderKLTemporalDecoder.from_pretrained(folder).eval()


def frames(count, size=16, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=noise)


def latents(count, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_encode_returns_the_unscaled_mode(codec, network):
    x = frames(3)
    with torch.no_grad():
        expected = network.encode(x.float() / 127.5 - 1).latent_dist.mean
    assert (codec.scale, codec.channels, codec.downscale) == (0.18215, 4, 2)
    torch.testing.assert_close(codec.encode(x), expected, atol=1e-5, rtol=1e-5)


def test_encoding_is_independent_of_chunks(codec, monkeypatch):
    x = frames(7)
    whole = codec.encode(x)
    sizes = []
    codec.network.encoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    monkeypatch.setitem(svd.PIXELS_AT_ONCE, "cpu", 3 * 16 * 16)
    torch.testing.assert_close(codec.encode(x), whole, atol=1e-5, rtol=1e-5)
    monkeypatch.setitem(svd.PIXELS_AT_ONCE, "cpu", 1)
    torch.testing.assert_close(codec.encode(x), whole, atol=1e-5, rtol=1e-5)
    assert sizes == [3, 3, 1, *[1] * 7]


def reference(network, z):
    with torch.no_grad():
        return ((network.decode(z, num_frames=len(z)).sample + 1) * 127.5).clamp(0, 255)


@pytest.mark.parametrize("count", [1, 2, CHUNK])
def test_short_clips_are_decoded_at_once(codec, network, count):
    z = latents(count)
    decoded = codec.decode(z)
    assert (decoded.shape, decoded.dtype) == ((count, 3, 16, 16), torch.uint8)
    assert (decoded.float() - reference(network, z)).abs().max() <= 0.51


def test_long_clips_cross_fade_between_fixed_chunks(codec, network):
    z = latents(28)
    first, second = reference(network, z[:16]), reference(network, z[12:28])
    decoded = codec.decode(z).float()
    assert (decoded[:12] - first[:12]).abs().max() <= 0.51
    assert (decoded[16:] - second[4:]).abs().max() <= 0.51
    low, high = torch.minimum(first[12:], second[:4]), torch.maximum(first[12:], second[:4])
    assert ((decoded[12:16] >= low - 1) & (decoded[12:16] <= high + 1)).all()
    weight = torch.tensor([0.2, 0.4, 0.6, 0.8])[:, None, None, None]
    blend = (1 - weight) * first[12:] + weight * second[:4]
    inside = (low > 0) & (high < 255)  # clamped values do not follow the blend
    assert (decoded[12:16] - blend)[inside].abs().max() <= 0.52
    assert (decoded - reference(network, z)).abs().max() > 1  # decoding at once differs, hence fixed chunks


@pytest.mark.parametrize("count", [*range(1, 60), 120, 500])
def test_chunks_cover_every_frame(count):
    starts = chunk_starts(count)
    assert starts[0] == 0
    assert starts[-1] + CHUNK >= count
    assert all(start + CHUNK <= count for start in starts) or starts == [0]
    assert all(FADE <= a + CHUNK - b < CHUNK for a, b in zip(starts, starts[1:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 17, 29, 30, 41])
def test_stream_equals_decode(codec, count):
    z = latents(count)
    sizes = []
    codec.network.decoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    streamed = list(codec.decode_stream(z.split(7), count))
    assert max(sizes) <= CHUNK
    assert torch.equal(torch.cat(streamed), codec.decode(z))
    assert sum(map(len, streamed)) == count


@pytest.mark.slow
def test_frames_come_as_soon_as_their_latents_have_arrived(codec):
    z, taken = latents(41), []

    def arriving():
        for start in range(0, 41, 5):
            taken.append(min(start + 5, 41))
            yield z[start : start + 5]

    ends, end = [], 0
    for piece in codec.decode_stream(arriving(), 41):
        end += len(piece)
        ends.append((end, taken[-1]))
    assert ends == [(12, 20), (24, 30), (25, 40), (41, 41)]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2, 5, 8, 16, 50])
def test_fewer_frames_are_decoded_together_on_demand(codec, network, at_once):
    z, sizes = latents(23), []
    codec.network.decoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    decoded = torch.cat(list(codec.decode_stream([z], 23, at_once)))
    assert len(decoded) == 23
    assert max(sizes) == min(at_once, CHUNK)
    first = reference(network, z[: min(at_once, CHUNK)])
    alone = chunk_starts(23, min(at_once, CHUNK))[1]  # frames before the cross-fade
    assert (decoded[:alone] - first[:alone]).abs().max() <= 0.51


def test_network_is_frozen_in_float32(codec, folder):
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in codec.network.parameters())
    assert codec.identity.weights == {WEIGHTS: sha256_of(folder / WEIGHTS)}


def test_architecture_has_the_published_size():
    """Compares the parameter count of SVD's vae/config.json, on the meta device, with the published weights."""
    with torch.device("meta"):
        network = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2
        )
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 97_742_847
    assert 0 < 391_017_740 - 4 * count < 100_000  # the file has float32 values and a header


def test_readable_errors(codec, folder, tmp_path):
    refuses(ValueError, "multiple of 2", codec.encode, frames(1, 15))
    refuses(ValueError, r"options\.model.*config\.json", SVDCodec, str(tmp_path))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"cut off")
    refuses(WrongWeights, str(tmp_path), SVDCodec, str(tmp_path))


def test_missing_weights_are_named(no_weights):
    refuses(MissingWeights, r"(?s)stable-video-diffusion-img2vid-xt.*5d92aa59.*put it here", SVDCodec)


def test_incomplete_weights_are_refused(folder, tmp_path):
    refuses(WrongWeights, "quant_conv", SVDCodec, incomplete(folder, tmp_path, WEIGHTS, "quant_conv.weight"))
