"""Synthetic clips: the picture matches the landmarks, and both match sound and emotion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from preparation.synthetic import EMOTIONS, FACTOR_NAMES, identity, levels_of, render_clip, split_of
from preparation.synthetic.emotions import FACES
from preparation.synthetic.motion import EXPRESSION_FACTORS, LIP_FACTORS

SPEAKERS = [identity(index) for index in range(12)]


def upright(landmarks):
    """Normalises (F, 68, 2) landmarks: centre of the eyes at 0, distance of the eyes 1, no roll."""
    right, left = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    points = (landmarks - (left + right)[:, None] / 2) @ np.array([1, 1j])
    points = points / ((left - right) @ np.array([1, 1j]))[:, None]
    return np.stack([points.real, points.imag], axis=-1)


def distance(landmarks, one, other):
    """Returns the (F,) distance between two normalised landmarks."""
    points = upright(landmarks)
    return np.linalg.norm(points[:, one] - points[:, other], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("person", SPEAKERS[::4], ids=lambda person: person.name)
@pytest.mark.parametrize("emotion", ["neutral", "happy", "sad", "angry"])
def test_lip_opening_follows_loudness(person, emotion):
    clip = render_clip(person, emotion, levels_of(emotion)[-1], 21, 5.0, 64)
    loudness = np.sqrt(np.mean(clip.sound.reshape(len(clip), -1) ** 2, axis=1))
    voiced = clip.factor("f0") > 0
    assert 0.3 < voiced.mean() < 0.9
    assert np.corrcoef(distance(clip.landmarks, 62, 66)[voiced], loudness[voiced])[0, 1] > 0.75


@pytest.mark.slow
def test_emotions_are_classified_from_held_out_faces_without_lips():
    """The nearest class mean of the training speakers' landmarks, without the mouth, classifies the other clips."""
    rows = []
    for person in SPEAKERS:
        for number, emotion in enumerate(EMOTIONS):
            clip = render_clip(person, emotion, levels_of(emotion)[-1], 50 + person.index, 1.6, 64)
            face = upright(clip.landmarks)[:, 17:48].mean(0).ravel()
            rows.append((face, number, split_of(person) == "train"))
    features, emotions, train = map(np.array, zip(*rows, strict=True))
    means = np.stack([features[train & (emotions == number)].mean(0) for number in range(len(EMOTIONS))])
    nearest = np.linalg.norm(features[:, None] - means, axis=-1).argmin(1)
    assert np.mean(nearest[~train] == emotions[~train]) >= 0.85


@pytest.mark.slow
def test_displacement_grows_with_the_level():
    def mean_face(emotion, level):
        return upright(render_clip(SPEAKERS[0], emotion, level, 3, 2.0, 64).landmarks)[:, 17:].mean(0)

    rest = mean_face("neutral", 1)
    for emotion in set(EMOTIONS) - {"neutral"}:
        moved = [np.linalg.norm(mean_face(emotion, level) - rest) for level in (1, 2, 3)]
        assert moved[0] < moved[1] < moved[2], emotion


def test_expression_is_modulated_by_the_voice():
    clip = render_clip(SPEAKERS[1], "happy", 3, 4, 8.0, 64)
    for name in ("corner_left", "brow_inner_left", "eye_opening_left"):
        assert clip.factor(name).std() > 0.04, name
    slow = np.convolve(clip.factor("loudness"), np.ones(9) / 9, "same")
    assert np.corrcoef(slow, clip.factor("corner_left"))[0, 1] > 0.4


def test_lips_depend_on_the_voice_and_expression_on_the_emotion():
    """Another emotion of the face keeps sound and lip factors bit for bit, and changes the factors of expression."""
    own = render_clip(SPEAKERS[0], "neutral", 1, 6, 2.0, 64)
    other = render_clip(SPEAKERS[0], "angry", 3, 6, 2.0, 64, voice_emotion=("neutral", 1))
    assert np.array_equal(own.sound, other.sound)
    for name in LIP_FACTORS:
        assert np.array_equal(own.factor(name), other.factor(name))
    for name in set(FACES["angry"]) & set(EXPRESSION_FACTORS):
        assert not np.array_equal(own.factor(name), other.factor(name))


def inside(points, size):
    mask = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(mask).polygon((points * 4).ravel().tolist(), fill=255)
    return np.asarray(mask.reduce(4)) / 255


def extent(mask):
    """Returns left, right, top and bottom edge of a mask, pixels."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], columns[-1] + 1, rows[0], rows[-1] + 1])


@pytest.mark.slow
@pytest.mark.parametrize("person", [SPEAKERS[1], SPEAKERS[9], SPEAKERS[6]], ids=lambda person: person.name)
@pytest.mark.parametrize("emotion", ["surprised", "happy", "disgusted"])
def test_landmarks_match_the_picture(person, emotion):
    """Lips (green in this test) fill the polygon of their landmarks, and the whites of the eyes lie inside theirs."""
    size = 256
    clip = render_clip(replace(person, lip=(0, 255, 0)), emotion, 2, 12, 1.0, size)
    for frame, points, opening in zip(clip.frames(), clip.landmarks, clip.factor("eye_opening_right"), strict=True):
        red, green, blue = frame.astype(int).transpose(2, 0, 1)
        lips = green - np.maximum(red, blue) > 50
        left, right = points[48:60, 0].min(), points[48:60, 0].max()
        edges = np.array([left, right, points[48:55, 1].min(), points[48:60, 1].max()])
        assert np.abs(extent(lips) - edges).max() < 3
        outer, inner = inside(points[48:60], size), inside(points[60:68], size)
        wider = Image.fromarray((outer > 0.5).astype(np.uint8)).filter(ImageFilter.MaxFilter(5))
        assert np.asarray(wider)[lips].mean() > 0.95  # the polygon of 12 points is slightly smaller than the curves
        if inner.sum() > 150:
            assert lips[inner > 0.99].mean() < 0.35  # the rest is teeth and cavity
        if opening > 1.0:
            for first in (36, 42):
                eye = points[first : first + 6]
                left, top, right, bottom = [*(eye.min(0) - 5).astype(int), *(eye.max(0) + 5).astype(int)]
                white = np.zeros((size, size), bool)
                white[top:bottom, left:right] = frame[top:bottom, left:right].min(axis=-1) > 225
                assert inside(eye, size)[white].mean() > 0.9


def test_inside_of_the_mouth_is_visible_when_it_is_open():
    clip = render_clip(SPEAKERS[1], "neutral", 1, 12, 3.0, 128)
    dark = []
    for frame, points in zip(clip.frames(), clip.landmarks, strict=True):
        box = np.concatenate([points[48:].min(0), points[48:].max(0)]).round().astype(int)
        mouth = frame[box[1] : box[3], box[0] : box[2]].astype(int)
        dark.append(((mouth.sum(-1) < 220) | (mouth.min(-1) > 190)).mean())  # the cavity, or teeth
    assert np.corrcoef(clip.factor("lip_opening"), dark)[0, 1] > 0.8


def test_eyes_close_in_a_blink():
    height = distance(render_clip(SPEAKERS[0], "neutral", 1, 4, 8.0, 64).landmarks, 37, 41)
    assert height.min() < 0.25 * np.median(height)
    assert (height < 0.5 * np.median(height)).mean() < 0.2


def test_face_does_not_depend_on_the_size():
    pictures = {size: next(render_clip(SPEAKERS[5], "fear", 3, 2, 1.0, size).frames()) for size in (64, 128, 512)}
    for size in (128, 512):
        smaller = Image.fromarray(pictures[size]).resize((64, 64), Image.Resampling.BOX)
        assert np.abs(np.asarray(smaller, float) - pictures[64]).mean() < 2.5
    clips = [render_clip(SPEAKERS[5], "fear", 3, 2, 1.0, size) for size in (64, 512)]
    np.testing.assert_allclose(clips[1].landmarks, clips[0].landmarks * 8, rtol=1e-4)


@pytest.mark.slow
def test_landmarks_stay_in_the_picture():
    for person in SPEAKERS[::3]:
        for emotion in EMOTIONS:
            clip = render_clip(person, emotion, levels_of(emotion)[-1], 3, 1.0, 64)
            assert clip.landmarks.min() > 1
            assert clip.landmarks.max() < 63


def test_speakers_look_different():
    pictures = [next(render_clip(person, "neutral", 1, 1, 1.0, 64).frames()).astype(float) for person in SPEAKERS]
    for index, first in enumerate(pictures):
        for second in pictures[:index]:
            assert np.abs(first - second).mean() > 10


def test_factors_have_their_names_and_ranges():
    clip = render_clip(SPEAKERS[3], "contempt", 2, 1, 2.0, 64)
    assert clip.factors.shape == (50, len(FACTOR_NAMES))
    assert clip.factors.dtype == np.float32
    assert np.isfinite(clip.factors).all()
    assert set(clip.factor("emotion")) == {EMOTIONS.index("contempt")}
    assert set(clip.factor("level")) == {2}
    assert len(clip.sound) == 640 * len(clip) == 640 * len(list(clip.frames()))


@pytest.mark.parametrize(
    ("emotion", "level", "message"),
    [("glee", 1, "unknown emotion"), ("happy", 4, "no level 4"), ("neutral", 2, "no level")],
)
def test_unknown_emotions_are_refused(emotion, level, message):
    with pytest.raises(ValueError, match=message):
        render_clip(SPEAKERS[0], emotion, level, 0, 1.0, 64)


@pytest.mark.parametrize("size", [30, 65])
def test_sizes_that_are_odd_or_too_small_are_refused(size):
    with pytest.raises(ValueError, match="size="):
        next(render_clip(SPEAKERS[0], "happy", 1, 0, 1.0, size).frames())
