"""Speech files: lengths, formats and errors."""

import json

import av
import numpy as np
import pytest

from generation.batch import VideoCase
from generation.errors import GenerationError
from generation.speech import read_speech
from media import MediaError, NoSound
from tests.helpers.inputs import tone
from tests.helpers.recordings import decibels, joined, make_as, pitch, tone_file, wave_of
from tests.helpers.sound import write_sound, write_wav


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (640, 1), (641, 2), (800, 2), (16_000, 25), (16_001, 26), (100_000, 157)]
)
def test_the_last_frame_covers_the_end_of_the_speech(tmp_path, samples, frames):
    write_wav(tmp_path / "a.wav", tone(10)[:samples], 16_000)
    speech = read_speech(tmp_path / "a.wav")
    assert (len(speech.samples), speech.frames) == (samples, frames)


@pytest.mark.parametrize(("rate", "kept"), [(16_000, 16_000), (44_100, 44_100), (48_000, 48_000), (8_000, 16_000)])
def test_the_sound_track_keeps_its_rate_if_possible(tmp_path, rate, kept):
    write_wav(tmp_path / "a.wav", np.stack([tone(1, rate), tone(1, rate)], 1), rate)
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames == 25
    assert (speech.rate, speech.sound.shape) == (kept, (2, kept))
    for side in speech.sound:
        np.testing.assert_allclose(side, tone(1, kept), atol=0.01)
    np.testing.assert_allclose(speech.samples, tone(1), atol=0.01)


def test_inaudibly_high_rates_are_reduced(tmp_path):
    write_wav(tmp_path / "a.wav", tone(0.2, 96_000), 96_000)
    assert read_speech(tmp_path / "a.wav").rate == 48_000


def test_the_format_is_detected_from_the_content(tmp_path):
    write_sound(tmp_path / "a.wav", tone(1.0, 44_100)[None], 44_100, "libmp3lame", "mp3")
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames in (25, 26, 27)  # MP3 holds whole packets of 26 ms
    assert np.corrcoef(speech.samples[1600:14_400], tone(1.0)[1600:14_400])[0, 1] > 0.99


@pytest.mark.nightly
def test_ten_minutes(tmp_path):
    write_wav(tmp_path / "a.wav", np.tile(tone(10), 60), 16_000)
    assert read_speech(tmp_path / "a.wav").frames == 15_000


def test_silence_gives_a_note(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(8000, np.float32), 16_000)
    speech = read_speech(tmp_path / "a.wav")
    assert speech.frames == 13
    assert "is silent" in speech.notes[0]
    write_wav(tmp_path / "b.wav", tone(0.5), 16_000)
    assert read_speech(tmp_path / "b.wav").notes == ()


def test_a_file_without_sound_is_refused(tmp_path):
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


def test_a_video_without_sound_is_refused(files):
    with pytest.raises(NoSound, match="has no sound track"):
        read_speech(files / "smile.mp4")


# The sound in the video


def sound_of(path):
    """(C, S) float32, samples per second and FFmpeg's name of the codec of a video's sound, read by FFmpeg alone."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        blocks = [frame.to_ndarray() for frame in file.decode(stream)]
        return np.concatenate(blocks, axis=1), stream.rate, stream.codec_context.name


def packets_of(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.size]


@pytest.fixture
def made(pipeline, files, tmp_path):
    """made(speech) -> the video, its record, and its notes."""

    def make(speech):
        case = VideoCase(files / "face.png", speech, tmp_path / f"{speech.stem}.mp4", steps=1)
        done = pipeline.generate(case)
        return done.path, json.loads(done.path.with_suffix(".json").read_text()), done.notes

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "muxer", "codec", "kind"),
    [
        ("a.m4a", "ipod", "aac", "AAC"),
        ("a.aac", "adts", "aac", "AAC"),
        ("a.ts", "mpegts", "aac", "AAC"),
        ("a.mka", "matroska", "aac", "AAC"),
        ("a.mp3", "mp3", "libmp3lame", "MP3"),
    ],
)
def test_aac_and_mp3_are_copied_in_stereo(made, tmp_path, name, muxer, codec, kind):
    left, right = wave_of(300, 1.0, 48_000), wave_of(900, 1.0, 48_000)
    speech = make_as(tmp_path / name, np.stack([left, right]), muxer, codec, 48_000)
    video, record, _ = made(speech)
    sound, rate, _ = sound_of(video)
    assert (rate, len(sound)) == (48_000, 2)
    assert record["speech"] | {"samples": 0} == {
        "samples": 0,
        "rate_in_video": 48_000,
        "channels_in_video": 2,
        "codec_in_video": kind,
        "copied": True,
    }
    if name in ("a.m4a", "a.mp3", "a.mka"):  # elsewhere each packet has a header, which MP4 does not take
        given, got = packets_of(speech), packets_of(video)
        assert got == given[: len(got)]
        assert len(got) >= len(given) - 2
    middle = sound[:, 8000:40_000]
    assert [pitch(side, rate) for side in middle] == pytest.approx([300, 900], abs=3)
    # The same time as in the features: the phase at the same sample.
    features = read_speech(speech)
    count = min(sound.shape[1], 47_000)
    own = features.sound[:, :count]
    assert np.abs(sound[:, 2000:count] - own[:, 2000:count]).max() < 0.05
    assert sound.shape[1] / rate == pytest.approx(features.frames / 25, abs=0.06)


@pytest.mark.slow
def test_other_codecs_are_encoded_with_their_channels(made, tmp_path):
    left, right = wave_of(300, 1.0, 48_000), wave_of(900, 1.0, 48_000)
    for name, muxer, codec in (("o.ogg", "ogg", "libopus"), ("w.wav", "wav", "pcm_s16le"), ("f.flac", "flac", "flac")):
        video, record, _ = made(make_as(tmp_path / name, np.stack([left, right]), muxer, codec, 48_000))
        sound, rate, codec = sound_of(video)
        assert (rate, len(sound), codec) == (48_000, 2, "aac")
        assert record["speech"]["copied"] is False
        assert [pitch(side[8000:40_000], rate) for side in sound] == pytest.approx([300, 900], abs=3)
    six = np.stack([wave_of(200 + 100 * n, 1.0, 48_000) for n in range(6)])
    video, record, _ = made(make_as(tmp_path / "six.wav", six, "wav", "pcm_s16le", 48_000))
    sound, rate, _ = sound_of(video)
    assert record["speech"]["channels_in_video"] == len(sound) == 6
    assert [pitch(side[8000:40_000], rate) for side in sound[[0, 1, 2, 4, 5]]] == pytest.approx(
        [200, 300, 400, 600, 700], abs=3
    )


@pytest.mark.slow
def test_an_inverted_channel_is_turned_in_the_video_too(made, tmp_path):
    voice = wave_of(300, 1.0, 48_000)
    video, record, notes = made(make_as(tmp_path / "inv.m4a", np.stack([voice, -voice]), "ipod", "aac", 48_000))
    sound, _, _ = sound_of(video)
    assert decibels(sound.mean(0)[2000:40_000]) == pytest.approx(decibels(voice), abs=1)
    assert record["speech"]["copied"] is False
    repair = [note for note in notes if "channel 2 is inverted" in note]
    assert repair
    assert repair[0] in record["notes"]


@pytest.mark.slow
def test_joined_speech_is_whole_in_the_video(made, tmp_path):
    both = joined(tmp_path / "both.mp3", tone_file(tmp_path / "a.mp3", 300), tone_file(tmp_path / "b.mp3", 900))
    video, record, notes = made(both)
    sound, rate, _ = sound_of(video)
    assert sound.shape[1] / rate == pytest.approx(2.0, abs=0.06)
    half = rate
    assert pitch(sound[0, 2000 : half - 2000], rate) == pytest.approx(300, abs=5)
    assert pitch(sound[0, half + 2000 : -2000], rate) == pytest.approx(900, abs=5)
    assert record["video"]["frames"] == 50
    assert any("is 2 files joined to one; all are read" in note for note in record["notes"])
    assert set(notes) <= set(record["notes"])


def test_channels_that_players_do_not_take_become_one(tmp_path):
    four = np.stack([wave_of(300, 0.5, 16_000)] * 4)
    speech = read_speech(make_as(tmp_path / "four.wav", four, "wav", "pcm_s16le", 16_000, "quad"))
    assert speech.sound.shape == (1, 8000)
    assert any("4 channels (quad) become one" in note for note in speech.notes)


def test_speech_longer_than_a_look_found_is_refused(tmp_path):
    path = tone_file(tmp_path / "a.wav", 300, 4.0)
    assert read_speech(path, length=4.0).frames == 100
    with pytest.raises(MediaError, match="lasts longer than 2 s"):
        read_speech(path, length=1.0)


def test_peaks_stay_and_are_named(tmp_path):
    path = make_as(tmp_path / "loud.wav", wave_of(300, 1.0, 16_000, 2.0)[None], "wav", "pcm_f32le", 16_000)
    speech = read_speech(path)
    assert np.abs(speech.samples).max() == pytest.approx(2.0, abs=0.01)
    assert np.abs(speech.sound).max() == pytest.approx(2.0, abs=0.01)
    assert any("6.0 dB over full scale" in note for note in speech.notes)
