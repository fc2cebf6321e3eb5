"""Channels, rates and peaks of speech: one channel is chosen by energy and phase, and none is lost."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from media import CancelledSound, MediaError, read_recording, read_sound
from tests.helpers.recordings import (
    KINDS,
    decibels,
    joined,
    level_of,
    make_as,
    pitch,
    wave_of,
)
from tests.helpers.sound import write_sound, write_wav

LEVEL = decibels(wave_of(300, 1, 16_000))


def stereo(left, right):
    return np.stack([left, right])


RATE = 48_000
VOICE = wave_of(300, 2, RATE) * (0.6 + 0.4 * np.sin(np.arange(2 * RATE) / 9000)).astype(np.float32)
HISS = np.random.default_rng(0).uniform(-0.002, 0.002, 2 * RATE).astype(np.float32)
MUSIC = wave_of(1111, 2, RATE, 0.2)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "mka", "mp3", "aac", "ts"])
@pytest.mark.parametrize(
    ("name", "channels", "words"),
    [
        ("inverted", stereo(VOICE, -VOICE), "channel 2 is inverted"),
        ("one_side", stereo(VOICE, 0 * VOICE), "in channel 1 of 2"),
        ("other_side", stereo(HISS, VOICE), "in channel 2 of 2"),
        ("both", stereo(VOICE, VOICE), ""),
    ],
)
def test_two_channels_are_as_loud_as_the_louder(tmp_path, kind, name, channels, words):
    muxer, codec, _ = KINDS[kind]
    path = make_as(tmp_path / f"{name}.{kind}", channels, muxer, codec, RATE)
    found = read_recording(path)
    assert decibels(found.mono[4000:-4000]) == pytest.approx(decibels(VOICE[4000:-4000]), abs=1)
    assert any(words in note for note in found.notes) if words else found.notes == ()
    assert np.corrcoef(found.mono[4000:90_000], VOICE[4000:90_000])[0, 1] ** 2 > 0.98 or kind in ("mp3", "aac", "ts")
    assert len(found.channels) == 2
    mean = np.abs(found.channels.mean(0)).max()
    assert mean > 0.1  # a player with one loudspeaker is not silent
    if name == "inverted":
        with pytest.raises(CancelledSound, match="one is inverted"):
            read_sound(path)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "mka", "ac3"])
def test_speech_in_the_centre_of_5_1(tmp_path, kind):
    muxer, codec, _ = KINDS[kind]
    if kind == "mka":
        codec = "ac3"
    quiet = 0 * VOICE
    for name, front in (("alone", quiet), ("music", MUSIC)):
        channels = np.stack([front, front, VOICE, quiet, quiet, quiet])
        layout = "5.1(side)" if codec == "ac3" else "5.1"
        found = read_recording(make_as(tmp_path / f"{name}.{kind}", channels, muxer, codec, RATE, layout))
        assert decibels(found.mono[4000:-4000]) == pytest.approx(decibels(VOICE[4000:-4000]), abs=1)
        assert pitch(found.mono, RATE) == pytest.approx(300, abs=3)
        assert any("channel" in note for note in found.notes)


def test_speakers_in_a_channel_each_are_both_as_loud_as_before(tmp_path):
    first, second = VOICE.copy(), wave_of(500, 2, RATE)
    first[RATE:], second[:RATE] = 0, 0
    path = write_sound(tmp_path / "two.wav", stereo(first, second), RATE, "pcm_s16le")
    found = read_recording(path)
    for part, own in ((slice(2000, RATE - 2000), first), (slice(RATE + 2000, -2000), second)):
        assert decibels(found.mono[part]) == pytest.approx(decibels(own[part]), abs=1)
    assert "raised by" in found.notes[0]


def test_channels_that_are_alike_give_their_mean_to_the_bit(tmp_path):
    near = (VOICE + 5 * HISS, VOICE - 3 * HISS)
    path = write_sound(tmp_path / "near.wav", stereo(*near), 16_000, "pcm_s16le")
    np.testing.assert_array_equal(read_recording(path).mono, read_sound(path))


def test_eight_kilohertz(tmp_path):
    write_wav(tmp_path / "phone.wav", wave_of(300, 1, 8000), 8000)
    found = read_recording(tmp_path / "phone.wav")
    assert (found.rate, len(found.mono), len(found.at(16_000))) == (8000, 8000, 16_000)
    assert level_of(found.at(16_000)) == pytest.approx(LEVEL, abs=0.2)


def test_peaks_over_full_scale_are_kept(tmp_path):
    path = write_sound(tmp_path / "loud.wav", wave_of(300, 1, 16_000, 3.0)[None], 16_000, "pcm_f32le")
    found = read_recording(path)
    assert np.abs(found.mono).max() == pytest.approx(3.0, abs=0.01)
    assert "its peak is 3.00, 9.5 dB over full scale" in found.notes[0]


def test_values_that_are_no_sound_are_named(tmp_path):
    path = write_sound(tmp_path / "broken.wav", wave_of(300, 1, 16_000, 1e30)[None], 16_000, "pcm_f32le")
    with pytest.raises(MediaError, match=r"values of 1e\+30, full scale is 1"):
        read_recording(path)


def test_parts_of_other_rates_and_channels(tmp_path):
    low = make_as(tmp_path / "low.wav", wave_of(300, 1, 8000)[None], "wav", "pcm_s16le", 8000)
    voice = wave_of(900, 1, 48_000)
    high = make_as(tmp_path / "high.wav", stereo(voice, voice), "wav", "pcm_s16le", 48_000)
    for parts, rate in (((low, high), 8000), ((high, low), 48_000)):
        found = read_recording(joined(tmp_path / "both.wav", *parts))
        assert (found.rate, len(found.mono), len(found.channels)) == (rate, 2 * rate, 1)
        assert any("change on the way" in note for note in found.notes)


def test_several_tracks_are_named(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(wave_of(300, 1, 16_000)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            file.mux(stream.encode(frame))
            file.mux(stream.encode())
    assert read_recording(path).notes == ("has 2 sound tracks; number 1 is used",)
