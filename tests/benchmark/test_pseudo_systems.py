"""Pseudo-systems of small synthetic speakers: each changes only what it is meant to change."""

import numpy as np
import pytest

from benchmark import pseudo_systems
from benchmark.pseudo_systems import make_pseudo_systems
from media import read_frames, read_sound
from runtime.errors import UserError
from tests.helpers.synthetic_videos import write_speakers
from tests.helpers.videos import write_video

FRAMES = 30
LEAD = 10 * 640  # samples of ten frames


@pytest.fixture
def made(tmp_path):
    real = write_speakers(tmp_path / "real", 2)
    tone = 0.5 * np.sin(np.arange(20 * 640) / 7).astype(np.float32)  # shorter than the others
    frames = [np.full((64, 64, 3), 10 * frame, np.uint8) for frame in range(20)]
    write_video(real / "short.mp4", frames, sound=tone, crf=4)
    kinds = ("swapped_speech", "still_image", "shifted_10_frames")
    assert make_pseudo_systems(real, tmp_path / "made") == dict.fromkeys(kinds, 3)
    return tmp_path / "made", real


def pictures(path):
    return np.stack(list(read_frames(path))).astype(int)


def correlation(a, b):
    """Correlation of two sounds, -1 to 1, over their common length."""
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


@pytest.mark.slow
def test_each_changes_only_picture_or_sound(made):
    folder, real = made
    for name, other in (("clip0", "clip1"), ("clip1", "short"), ("short", "clip0")):
        video = real / f"{name}.mp4"
        true, sound = pictures(video), read_sound(video)
        for kind in ("swapped_speech", "shifted_10_frames"):
            frames = pictures(folder / kind / f"{name}.mp4")
            assert frames.shape == true.shape
            assert np.abs(frames - true).mean() < 3
        still = pictures(folder / "still_image" / f"{name}.mp4")
        assert np.abs(still - true[:1]).mean() < 3
        assert np.abs(np.diff(still, axis=0)).mean() < 0.5
        assert correlation(read_sound(folder / "still_image" / f"{name}.mp4"), sound) > 0.95
        swapped = read_sound(folder / "swapped_speech" / f"{name}.mp4")
        assert correlation(swapped, read_sound(real / f"{other}.mp4")) > 0.95
        assert len(swapped) == pytest.approx(len(true) * 640, abs=1100)
        shifted = read_sound(folder / "shifted_10_frames" / f"{name}.mp4")
        assert correlation(shifted[: len(sound) - LEAD - 2000], sound[LEAD:]) > 0.95
        assert np.abs(shifted[len(sound) - LEAD + 2000 :]).max() < 0.05


@pytest.mark.slow
def test_landmarks_are_copied_or_held_like_the_pictures(made):
    folder, real = made
    assert (folder / "swapped_speech" / "clip0.csv").read_text() == (real / "clip0.csv").read_text()
    table = np.genfromtxt(folder / "still_image" / "clip0.csv", delimiter=",", skip_header=1)
    first = np.genfromtxt(real / "clip0.csv", delimiter=",", skip_header=1)[0]
    assert len(table) == FRAMES
    assert np.array_equal(table[:, 3:], np.tile(first[3:], (FRAMES, 1)))
    assert table[:, 2] == pytest.approx(np.arange(FRAMES) / 25, abs=1e-3)
    assert not (folder / "still_image" / "short.csv").exists()


def test_impossible_settings_are_refused(tmp_path):
    real = write_speakers(tmp_path / "real", 1)
    for options, message in (
        ([f"real={real}"], "at least two are needed to swap speech"),
        ([f"real={tmp_path / 'none'}"], "no such folder"),
        ([f"real={real}", "shift=16"], "shift=16: expected 1 to 15 frames"),
    ):
        with pytest.raises(UserError, match=message):
            pseudo_systems.main([*options, f"output={tmp_path / 'out'}"])
