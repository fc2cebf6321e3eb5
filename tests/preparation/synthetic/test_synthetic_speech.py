"""Synthetic speech, measured in the sound itself, not in its control tracks."""

from __future__ import annotations

import numpy as np
import pytest

from preparation.synthetic import EMOTIONS, identity
from preparation.synthetic.emotions import VOICES, VoiceStyle
from preparation.synthetic.sentence import PHONES, VOWELS
from preparation.synthetic.synthetic_speech import speak

MAN, WOMAN = identity(0), identity(1)
NEUTRAL = VoiceStyle()


def rms_db(sound):
    return 20 * np.log10(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))


def measured_pitch(sound):
    """Returns the median pitch in Hz by autocorrelation of 80 ms windows."""
    pitches = []
    for start in range(0, len(sound) - 1280, 640):
        piece = sound[start : start + 1280].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(piece, 4096)) ** 2
        correlation = np.fft.irfft(spectrum)[:1280]
        lag = 30 + int(np.argmax(correlation[30:250]))  # 64 to 533 Hz
        if np.sqrt(np.mean(piece**2)) > 0.01 and correlation[lag] > 0.5 * correlation[0]:
            pitches.append(16_000 / lag)
    return float(np.median(pitches))


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("person", [MAN, WOMAN], ids=["man", "woman"])
def test_sound_is_neither_silent_nor_clipped(person, emotion):
    sound = speak(person.voice, VOICES[emotion], 3, 3.0).sound
    assert sound.shape == (48_000,)
    assert sound.dtype == np.float32
    assert -42 < rms_db(sound) < -15
    assert np.abs(sound).max() < 0.96


@pytest.mark.parametrize("person", [MAN, WOMAN], ids=["man", "woman"])
def test_measured_pitch_matches_the_control_track(person):
    speech = speak(person.voice, NEUTRAL, 5, 4.0)
    assert measured_pitch(speech.sound) == pytest.approx(np.median(speech.f0[speech.f0 > 0]), rel=0.06)


def test_emotions_change_pitch_and_energy():
    spoken = {emotion: speak(MAN.voice, VOICES[emotion], 5, 4.0).sound for emotion in EMOTIONS}
    loudness = {emotion: rms_db(sound) for emotion, sound in spoken.items()}
    pitch = {emotion: measured_pitch(sound) for emotion, sound in spoken.items()}
    assert loudness["sad"] + 4 < loudness["neutral"] < loudness["angry"] - 4
    assert pitch["sad"] < pitch["neutral"] < pitch["happy"]
    assert pitch["disgusted"] < pitch["neutral"] < pitch["surprised"]


def test_vowels_have_their_formants():
    """The spectral peaks in the middle of each vowel's longest instance lie at its first two formants."""
    speech = speak(MAN.voice, NEUTRAL, 8, 12.0)
    for name in VOWELS:
        phone = max((p for p in speech.phones if p.name == name), key=lambda p: p.end - p.start)
        middle = round((phone.start + phone.end) / 2 * 16_000)
        piece = speech.sound[middle - 400 : middle + 400] * np.hanning(800)
        power = np.abs(np.fft.rfft(piece, 4096)) ** 2
        frequency = np.fft.rfftfreq(4096, 1 / 16_000)
        f1, f2 = np.array(PHONES[name].formants[:2]) * MAN.voice.formant_scale
        for formant, low, high in ((f1, 150, (f1 + f2) / 2), (f2, (f1 + f2) / 2, f2 * 1.3)):
            band = (frequency >= low) & (frequency < high)
            centre = np.sum(frequency[band] * power[band]) / np.sum(power[band])
            assert abs(centre - formant) < max(0.2 * formant, 110), (name, formant, centre)


def test_lips_close_for_closures_and_open_for_a():
    speech = speak(MAN.voice, NEUTRAL, 8, 12.0)
    for phone in speech.phones:
        first = round(phone.start * 25)
        opening = speech.lips[first : max(round(phone.end * 25), first + 1), 0]
        if PHONES[phone.name].closed:
            assert opening.min() < 0.06, phone
        if phone.name == "a" and phone.accent:
            assert opening.max() > 0.5, phone


def test_lips_are_rounded_for_u_and_spread_for_i():
    speech = speak(MAN.voice, NEUTRAL, 8, 12.0)
    for phone in speech.phones:
        frame = int((phone.start + phone.end) / 2 * 25)
        if phone.name == "u":
            assert speech.lips[frame, 1] < -0.3
            assert speech.lips[frame, 2] > 0.4
        if phone.name == "i":
            assert speech.lips[frame, 1] > 0.3
            assert speech.lips[frame, 2] < 0.3


def test_sentence_has_the_same_phones_in_any_voice():
    sentences = [speak(person.voice, VOICES[e], 9, 5.0).phones for person, e in ((MAN, "sad"), (WOMAN, "fear"))]
    pairs = list(zip(*sentences, strict=False))
    assert len(pairs) > 10
    assert all(one.name == other.name for one, other in pairs)


def test_shortest_length_is_one_second():
    for seed in range(20):
        assert rms_db(speak(MAN.voice, VOICES["sad"], seed, 1.0).sound) > -50
    with pytest.raises(ValueError, match="at least 1 second"):
        speak(MAN.voice, NEUTRAL, 0, 0.5)
