"""Lengths, formats and what is wrong with sound files."""

import numpy as np
import pytest

from generation.errors import GenerationError
from generation.speech import read_speech
from media import MediaError, NoSound
from tests.helpers.inputs import tone
from tests.helpers.sound import write_sound, write_wav


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (640, 1), (641, 2), (800, 2), (16_000, 25), (16_001, 26), (100_000, 157)]
)
def test_the_last_frame_is_spoken_to_the_end(tmp_path, samples, frames):
    write_wav(tmp_path / "a.wav", tone(10)[:samples], 16_000)
    speech = read_speech(tmp_path / "a.wav")
    assert (len(speech.samples), speech.frames) == (samples, frames)


@pytest.mark.parametrize(("rate", "kept"), [(16_000, 16_000), (44_100, 44_100), (48_000, 48_000), (8_000, 16_000)])
def test_the_sound_track_keeps_its_rate_where_it_can(tmp_path, rate, kept):
    write_wav(tmp_path / "a.wav", np.stack([tone(1, rate), tone(1, rate)], 1), rate)
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames == 25
    assert (speech.rate, len(speech.sound)) == (kept, kept)
    np.testing.assert_allclose(speech.sound, tone(1, kept), atol=0.01)
    np.testing.assert_allclose(speech.samples, tone(1), atol=0.01)


def test_rates_beyond_hearing_come_down(tmp_path):
    write_wav(tmp_path / "a.wav", tone(0.2, 96_000), 96_000)
    assert read_speech(tmp_path / "a.wav").rate == 48_000


def test_an_mp3_named_wav_is_read_by_its_content(tmp_path):
    write_sound(tmp_path / "a.wav", tone(1.0, 44_100)[None], 44_100, "libmp3lame", "mp3")
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames in (25, 26, 27)  # MP3 holds whole packets of 26 ms
    assert np.corrcoef(speech.samples[1600:14_400], tone(1.0)[1600:14_400])[0, 1] > 0.99


@pytest.mark.nightly
def test_ten_minutes(tmp_path):
    write_wav(tmp_path / "a.wav", np.tile(tone(10), 60), 16_000)
    assert read_speech(tmp_path / "a.wav").frames == 15_000


def test_silence_is_told(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(8000, np.float32), 16_000)
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames == 13
    assert "is silent" in speech.notes[0]
    write_wav(tmp_path / "b.wav", tone(0.5), 16_000)
    assert read_speech(tmp_path / "b.wav").notes == ()


def test_what_holds_no_sound_is_an_error(tmp_path):
    (tmp_path / "empty.wav").touch()
    write_wav(tmp_path / "zero.wav", np.zeros(0, np.float32), 16_000)
    (tmp_path / "text.wav").write_text("hello")
    for name, errors, words in (
        ("none", MediaError, r"none\.wav: no such file"),
        ("empty", MediaError, "is empty"),
        ("zero", (GenerationError, MediaError), r"zero\.wav"),
        ("text", MediaError, r"text\.wav"),
    ):
        with pytest.raises(errors, match=words):
            read_speech(tmp_path / f"{name}.wav")


def test_a_video_without_sound_is_an_error(files):
    with pytest.raises(NoSound, match="has no sound track"):
        read_speech(files / "smile.mp4")
