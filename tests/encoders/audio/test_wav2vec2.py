"""wav2vec 2.0 features with random weights that are saved and loaded like the published ones."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Model

from encoders.audio import wav2vec2
from encoders.audio.wav2vec2 import Wav2Vec2Encoder
from encoders.weights import MissingWeights, WrongWeights
from runtime.files import sha256_of
from tests.helpers.pretrained import incomplete
from tests.helpers.refusals import refuses

RATE = 16_000


def small_config():
    return Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, layerdrop=0.5, apply_spec_augment=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small wav2vec 2.0 with a CTC head, like the published facebook/wav2vec2-base-960h."""
    path = tmp_path_factory.mktemp("wav2vec2-small")
    torch.manual_seed(0)
    Wav2Vec2ForCTC(small_config()).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return Wav2Vec2Encoder(str(folder), layers=3)


def speech(seconds, seed=0):
    """Noise with loudness and spectrum that change at the rate of speech."""
    samples = int(seconds * RATE)
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    time = torch.arange(samples) / RATE
    return 0.2 * noise * (0.6 + 0.4 * torch.sin(7.3 * time)) + 0.1 * torch.sin(2000 * time + 3 * torch.sin(9 * time))


def native(network, samples):
    """Hidden states of every layer at 50 Hz, by transformers' feature extractor and model."""
    values = Wav2Vec2FeatureExtractor(do_normalize=True)(samples.numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return torch.cat(network.eval()(values.input_values, output_hidden_states=True).hidden_states[1:])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 1.0, 1.01, 12.34, 30.0])
@pytest.mark.parametrize("resample", ["post", "pre"])
def test_frame_count(folder, seconds, resample):
    features = Wav2Vec2Encoder(str(folder), 3, resample)(speech(seconds))
    assert features.shape == (math.ceil(int(seconds * RATE) * 25 / RATE), 3, 32)
    assert features.isfinite().all()


def test_one_sample_and_silence(encoder):
    assert encoder(torch.zeros(1)).shape == (1, 3, 32)
    assert encoder(torch.zeros(RATE)).isfinite().all()


def test_post_interpolates_in_time(folder, encoder):
    """Equals numpy's interpolation from the centres of the network's windows to the centres of the frames."""
    samples = speech(2.0)
    states = native(Wav2Vec2Model.from_pretrained(folder), F.pad(samples - samples.mean(), (0, 80)))
    centres = (np.arange(states.shape[1]) * 320 + 200) / RATE
    frames = (np.arange(50) + 0.5) / 25
    expected = [[np.interp(frames, centres, state[:, i].numpy()) for i in range(32)] for state in states]
    np.testing.assert_allclose(encoder(samples).numpy(), np.transpose(expected, (2, 0, 1)), atol=2e-3)


def test_pre_interpolates_before_the_transformer(folder):
    """Equals Hallo: linear interpolation of the convolutional features, aligned corners, to the number of frames."""
    samples, network = speech(2.0), Wav2Vec2Model.from_pretrained(folder)

    def interpolated(module, arguments, features):
        return F.interpolate(features, size=50, mode="linear", align_corners=True)

    network.feature_extractor.register_forward_hook(interpolated)
    expected = native(network, samples).transpose(0, 1)
    torch.testing.assert_close(Wav2Vec2Encoder(str(folder), 3, "pre")(samples), expected, atol=1e-4, rtol=1e-4)


def test_last_layers_are_kept(folder, encoder):
    samples = speech(0.5)
    torch.testing.assert_close(Wav2Vec2Encoder(str(folder), layers=1)(samples), encoder(samples)[:, -1:])


@pytest.mark.slow
@pytest.mark.parametrize("resample", ["post", "pre"])
def test_chunks_are_close_to_the_whole(folder, resample, monkeypatch):
    encoder = Wav2Vec2Encoder(str(folder), 3, resample)
    samples = speech(50.0)
    lengths = []
    encoder.network.encoder.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    chunked = encoder(samples)
    assert len(lengths) == 3
    assert max(lengths) <= 22 * (50 if resample == "post" else 25)  # 20 s and a second of context on each side
    monkeypatch.setattr(wav2vec2, "CHUNK", 10**6)
    whole = encoder(samples)
    assert chunked.shape == whole.shape
    # Attention and the group norm over time have another context, so the features are close, not equal.
    error = (chunked - whole).square().mean().sqrt() / whole.std(0).mean()
    assert error < 0.03, error
    cosine = F.cosine_similarity(chunked.flatten(1), whole.flatten(1)).min()
    assert cosine > 0.999, cosine


@pytest.mark.slow
def test_loudness_is_normalised_over_the_whole_clip(encoder):
    """A quiet half changes the features of the loud half, so the statistics are not per chunk."""
    samples = speech(50.0)
    features = encoder(samples)
    torch.testing.assert_close(encoder(0.1 * samples + 0.01), features, atol=1e-3, rtol=1e-3)
    samples[25 * RATE :] *= 0.01
    faded = encoder(samples)
    assert not torch.allclose(faded[:600], features[:600], atol=1e-3)


def test_shift_by_one_frame(encoder):
    samples = speech(4.0)
    plain, shifted = encoder(samples), encoder(torch.cat([samples[-640:], samples]))
    error = (shifted[11:91] - plain[10:90]).square().mean().sqrt() / plain.std(0).mean()
    other = (shifted[10:90] - plain[10:90]).square().mean().sqrt() / plain.std(0).mean()
    assert error < 0.03, error
    assert other > 5 * error


def test_encoder_is_deterministic_and_frozen(encoder):
    samples = speech(1.0)
    assert torch.equal(encoder(samples), encoder(samples))
    assert not encoder.network.training
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


def test_identity_has_the_weights(encoder, folder):
    assert encoder.identity.weights == {"model.safetensors": sha256_of(folder / "model.safetensors")}
    assert encoder.identity.options == {"layers": 3, "resample": "post"}


@pytest.mark.slow
def test_base_model(tmp_path, monkeypatch):
    """The published architecture at full size, with random weights, as a local folder and in the weights folder."""
    torch.manual_seed(0)
    Wav2Vec2ForCTC(Wav2Vec2Config()).save_pretrained(tmp_path / "wav2vec2-base-960h")
    monkeypatch.chdir(tmp_path)
    encoder = Wav2Vec2Encoder("wav2vec2-base-960h")
    assert sum(p.numel() for p in encoder.network.parameters()) == 94_371_712
    assert encoder(speech(0.4)).shape == (10, 12, 768) == (10, encoder.layers, encoder.width)
    # In the weights folder the random weights do not have the published hash.
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path))
    refuses(WrongWeights, "wav2vec2-base-960h", Wav2Vec2Encoder)


def test_missing_weights_are_named(no_weights):
    refuses(MissingWeights, r"(?s)facebook/wav2vec2-base-960h/resolve.*8aa76ab2.*put it here", Wav2Vec2Encoder)


def test_readable_errors(folder, tmp_path):
    refuses(ValueError, r"options\.layers.*3 layers, found layers=12", Wav2Vec2Encoder, str(folder))
    refuses(ValueError, r"options\.resample: must be post or pre", Wav2Vec2Encoder, str(folder), 3, "both")
    message = r"options\.model.*config\.json and model\.safetensors not found"
    refuses(ValueError, message, Wav2Vec2Encoder, str(tmp_path))
    refuses(ValueError, "mono samples", Wav2Vec2Encoder(str(folder), 3), torch.zeros(0))


def test_incomplete_weights_are_refused(folder, tmp_path):
    model = incomplete(folder, tmp_path, "model.safetensors", "layers.1.attention.k_proj.weight")
    refuses(WrongWeights, "1 tensors are missing", Wav2Vec2Encoder, model, 3)
