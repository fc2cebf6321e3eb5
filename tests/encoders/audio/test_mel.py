"""Mel features: frame counts, alignment in time, and a filter bank compared with transformers'."""

import math

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank

from encoders.audio import mel
from encoders.audio.mel import MelEncoder, mel_filters

RATE = 16_000


@pytest.fixture(scope="module")
def encoder():
    return MelEncoder()


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def tone(frequency, seconds=1.0, amplitude=1.0):
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(int(seconds * RATE)) / RATE)


def powers(features):
    return 10 ** (features * mel.SPREAD + mel.CENTRE)


def test_filters_match_transformers():
    other = mel_filter_bank(513, 80, 50.0, 8000.0, RATE, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters().numpy(), other, atol=1e-6)


def test_filters_sum_to_one():
    filters = mel_filters()
    inner = slice(10, -30)  # between the first and last centre, neighbouring triangles sum to one
    torch.testing.assert_close(filters.sum(1)[inner], torch.ones(513)[inner])
    assert (filters.sum(0) > 0).all()


@pytest.mark.parametrize("band", [5, 20, 40, 60, 79])
def test_tone_has_its_band_and_power(encoder, band):
    mels = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 8000 / 700), 82)
    centre = 700 * (10 ** (mels[band + 1] / 2595) - 1)
    features = encoder(tone(centre, amplitude=0.5))[5:20]
    assert (features.argmax(-1) == band).all()
    if band >= 40:  # filters wider than the window's main lobe contain nearly the whole tone
        # Parseval: the bins of a windowed tone of power a^2 sum to a^2 * FFT * sum(w^2) / sum(w)^2.
        window = np.hanning(mel.WINDOW)
        expected = 0.25 * mel.FFT * (window**2).sum() / window.sum() ** 2
        assert powers(features).sum(-1).mean().item() == pytest.approx(expected, rel=0.02 if band < 79 else 0.5)


def test_loudness_is_kept(encoder):
    quiet, loud = encoder(tone(1000, amplitude=0.01)), encoder(tone(1000, amplitude=0.1))
    difference = (loud - quiet)[5:20].amax(-1) * mel.SPREAD
    torch.testing.assert_close(difference, torch.full_like(difference, 2.0), atol=0.05, rtol=0)


def test_silence_and_clipping_are_finite(encoder):
    for sound in (torch.zeros(RATE), torch.sign(noise(RATE))):
        assert encoder(sound).half().isfinite().all()


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 800, 16_000, 16_001, 480_000])
def test_frame_count(encoder, samples):
    features = encoder(noise(samples))
    assert features.shape == (math.ceil(samples * 25 / RATE), encoder.layers, encoder.width)
    assert features.dtype == torch.float32


@pytest.mark.slow
def test_long_audio_equals_its_parts(encoder):
    """Processing in chunks does not change the features."""
    long = noise(600 * RATE)
    features = encoder(long)
    assert len(features) == 15_000
    part = encoder(long[1480 * 640 : 1520 * 640])  # across the border of the first two chunks
    torch.testing.assert_close(features[1482:1518], part[2:-2], atol=1e-4, rtol=0)


def test_shift_by_one_frame(encoder):
    x = noise(20 * 640)
    shifted = encoder(torch.cat([noise(640, seed=1), x]))
    torch.testing.assert_close(shifted[2:], encoder(x)[1:], atol=1e-5, rtol=0)


def test_frames_are_centred(encoder):
    """Windows are centred on their frames, so the features of the reversed clip are the reversed features."""
    x = noise(20 * 640)
    backwards = encoder(x.flip(0)).flatten(0, 1).flip(0)
    torch.testing.assert_close(backwards, encoder(x).flatten(0, 1), atol=1e-4, rtol=0)


def test_click_is_localised(encoder):
    for frame, subframe in ((7, 0), (7, 3), (12, 1)):
        x = torch.zeros(20 * 640)
        x[frame * 640 + subframe * 160 + 80] = 1.0
        loudest = powers(encoder(x)).sum(-1).flatten().argmax().item()
        assert divmod(loudest, 4) == (frame, subframe)


def test_speech_is_about_standardised(encoder, assets):
    import av

    with av.open(str(assets / "data" / "wav" / "hdtf_RD_Radio31_000.wav")) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        blocks = [block.to_ndarray()[0] for frame in container.decode(audio=0) for block in resampler.resample(frame)]
    features = encoder(torch.from_numpy(np.concatenate(blocks)))
    assert abs(features.mean()) < 1
    assert 0.5 < features.std() < 1.5


@pytest.mark.parametrize("samples", [torch.zeros(0), torch.zeros(2, 100)])
def test_other_shapes_are_refused(encoder, samples):
    with pytest.raises(ValueError, match="mono samples at 16 kHz"):
        encoder(samples)
