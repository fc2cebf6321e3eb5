"""Sound comes out mono at the rate asked for, where it belongs in time, from any codec."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from media import MediaError, NoSound, decode_flac, encode_flac, probe, read_sound, resample, sound, sound_duration
from tests.helpers.files import overwrite
from tests.helpers.flash_clips import frame_times, make_clip
from tests.helpers.sound import sound_frame, write_sound


def tone(rate, seconds=1.0, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "codec", "container", "rate", "channels", "tolerance"),
    [
        ("a.wav", "pcm_s16le", "wav", 16_000, 1, 1e-4),
        ("a.wav", "pcm_s16le", "wav", 48_000, 2, 2e-3),
        ("a.wav", "pcm_u8", "wav", 8_000, 1, 2e-2),
        ("a.wav", "pcm_f32le", "wav", 44_100, 2, 2e-3),
        ("a.wav", "pcm_s24le", "wav", 32_000, 1, 2e-3),
        ("named.wav", "libmp3lame", "mp3", 44_100, 2, 3e-2),
        ("a.mp3", "libmp3lame", "mp3", 16_000, 1, 3e-2),
        ("a.m4a", "aac", "ipod", 48_000, 2, 3e-2),
        ("a.flac", "flac", "flac", 22_050, 1, 2e-3),
        ("a.ogg", "libopus", "ogg", 48_000, 2, 3e-2),
        ("a.mka", "aac", "matroska", 44_100, 1, 3e-2),
    ],
)
def test_every_codec_gives_the_same_tone(tmp_path, name, codec, container, rate, channels, tolerance):
    """The truth is the tone itself, sampled at 16 kHz: a shift by one sample would be an RMS error of 0.06."""
    left = tone(rate)
    sides = [left * 1.5, left * 0.5] if channels == 2 else [left]
    path = write_sound(tmp_path / name, np.stack(sides), rate, codec, container)
    samples = read_sound(path)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - 16_000) <= 16_000 * 0.09  # MP3 and AAC outside MP4 fill their last packet
    truth = tone(16_000)[500:-500]
    error = samples[500 : 500 + len(truth)] - truth
    assert np.sqrt(np.mean(error**2)) < tolerance
    info = probe(path)
    assert (info.width, info.has_sound, info.sound_rate, info.channels) == (0, True, rate, channels)
    assert info.sound_duration == pytest.approx(len(samples) / 16_000, abs=0.025)
    assert sound_duration(path) == info.sound_duration


def test_no_sound_is_told_apart_from_damage(tmp_path):
    silent = make_clip(tmp_path / "silent.mp4", frame_times(25, 0.4), audio=None)
    with pytest.raises(NoSound, match=r"silent\.mp4: has no sound track"):
        read_sound(silent)
    with pytest.raises(NoSound):
        sound_duration(silent)
    text = tmp_path / "text.wav"
    text.write_text("not sound at all\n" * 100)
    with pytest.raises(MediaError, match=r"text\.wav: not a readable .* b'not sound at'") as caught:
        read_sound(text)
    assert not isinstance(caught.value, NoSound)


def test_sound_is_never_padded_at_the_end(tmp_path):
    path = make_clip(tmp_path / "short.mp4", frame_times(25), audio_seconds=1.5)
    info = probe(path)
    assert info.duration == pytest.approx(2.0)
    assert info.sound_duration == pytest.approx(1.5, abs=1e-3)
    assert len(read_sound(path, end=2.0)) == pytest.approx(24_000, abs=16)
    with pytest.raises(MediaError, match=r"its sound ends at 1\.500 s, before 1\.700 s"):
        read_sound(path, start=1.7)


def test_late_sound_is_preceded_by_zeros(tmp_path):
    path = make_clip(tmp_path / "late.mp4", frame_times(25), audio="aac", audio_start=0.5)
    samples = read_sound(path)
    assert len(samples) == pytest.approx(32_000, abs=16)
    assert not samples[: 16_000 // 2 - 40].any()
    assert abs(np.abs(samples).argmax() / 16_000 - 1.0) < 0.005


def test_a_gap_in_the_sound_is_silence(tmp_path):
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in (0, 16_000):
            container.mux(stream.encode(sound_frame(tone(16_000, 0.5)[None], 16_000, start)))
        container.mux(stream.encode())
    samples = read_sound(path)
    assert len(samples) == 24_000
    np.testing.assert_allclose(samples[:8000], tone(16_000, 0.5), atol=1e-4)
    assert not samples[8000:16_000].any()
    np.testing.assert_allclose(samples[16_000:], tone(16_000, 0.5), atol=1e-4)


@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_damaged_sound_is_an_error(tmp_path, name):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48_000)).astype(np.float32)
    path = write_sound(tmp_path / name, noise, 16_000, "flac" if name == "a.flac" else "aac")
    overwrite(path, path.stat().st_size // 2, np.random.default_rng(1).bytes(600))
    with pytest.raises(MediaError, match=rf"{name}: its sound is damaged .* of 3\.\d+ s could be decoded"):
        read_sound(path)


def test_values_that_are_not_numbers_are_an_error(tmp_path):
    samples = tone(16_000)
    samples[3000] = np.nan
    with pytest.raises(MediaError, match="not numbers"):
        read_sound(write_sound(tmp_path / "nan.wav", samples[None], 16_000, "pcm_f32le"))


def test_loud_float_sound_is_cut_at_full_scale(tmp_path):
    path = write_sound(tmp_path / "loud.wav", tone(16_000, level=3.0)[None], 16_000, "pcm_f32le")
    assert np.abs(read_sound(path)).max() == 1.0


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_keeps_time_and_level(rate):
    out = resample(tone(rate, 2.0), rate, 16_000)
    assert len(out) == 32_000
    np.testing.assert_allclose(out[400:-400], tone(16_000, 2.0)[400:-400], atol=3e-3)


def test_flac_is_exact_to_16_bit_and_deterministic():
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.uniform(-1, 1, 99_999), [1.0, -1.0, 2.0, -2.0]]).astype(np.float32)
    data = encode_flac(samples)
    assert data == encode_flac(samples.copy())
    decoded = decode_flac(data)
    assert decoded.dtype == np.float32
    assert len(decoded) == len(samples)
    assert np.abs(decoded - samples.clip(-1, 1)).max() <= 1 / 32_768
    np.testing.assert_array_equal(decoded, np.rint(samples * 32_768).clip(-32_768, 32_767) / 32_768)
    assert encode_flac(decoded) == data


@pytest.mark.parametrize("length", [1, 15, 16, 17, 640, 4096, 4607, 4608, 4609, 65_536, 65_537])
def test_flac_of_any_length(length):
    samples = np.linspace(-0.9, 0.9, length, dtype=np.float32)
    np.testing.assert_array_equal(decode_flac(encode_flac(samples)), np.rint(samples * 32_768) / 32_768)


def test_bad_flac_is_refused():
    data = encode_flac(np.random.default_rng(0).uniform(-1, 1, 32_000).astype(np.float32))
    with pytest.raises(MediaError, match=r"damaged|found 0 Hz"):
        decode_flac(b"RIFF" + data[4:200])
    with pytest.raises(MediaError, match=r"damaged|of 32000 samples"):
        decode_flac(data[: len(data) // 2])
    with pytest.raises(MediaError):
        decode_flac(data[:20_000] + bytes(50) + data[20_050:])
    with pytest.raises(ValueError, match="float32"):
        encode_flac(np.zeros(10))
    with pytest.raises(ValueError, match="not numbers"):
        encode_flac(np.array([np.nan], np.float32))
    file = write_sound(io.BytesIO(), np.zeros((2, 10_000), np.float32), 44_100, "flac", "flac")
    with pytest.raises(MediaError, match="found 44100 Hz, 2 channels"):
        decode_flac(file.getvalue())


def test_real_sound(assets):
    for name, seconds in (("wav/hallo3_0008.wav", 10.453333), ("video/latentsync_demo1.mp4", 10.008005)):
        samples = read_sound(assets / "data" / name)
        assert len(samples) == pytest.approx(seconds * 16_000, abs=16)
        assert 0.05 < np.abs(samples).max() <= 1.0


def test_only_the_frames_of_a_span_are_converted(tmp_path, monkeypatch):
    """Those before it are decoded, so that a late piece of a long file is exact."""
    path = tmp_path / "long.m4a"
    time = np.arange(20 * 16_000) / 16_000
    write_sound(
        path, (0.3 * np.sin(2 * np.pi * (200 + 20 * time) * time))[None].astype(np.float32), 16_000, "aac", "mp4"
    )
    whole = read_sound(path, rate=16_000)
    converted = []
    planes = sound.planes
    monkeypatch.setattr(sound, "planes", lambda frame: converted.append(frame.samples) or planes(frame))
    late = read_sound(path, start=18.0, end=19.0, rate=16_000)
    np.testing.assert_array_equal(late, whole[18 * 16_000 : 19 * 16_000])
    assert sum(converted) <= 3.2 * 16_000  # the span and a second on each side
