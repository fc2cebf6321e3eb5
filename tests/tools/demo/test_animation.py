"""The animated picture of a demonstration: what is shown where, and for how long."""

import json

import numpy as np
import pytest
from PIL import Image, ImageSequence

from runtime.errors import UserError
from tests.helpers import videos
from tools.demo.animation import GAP, HEAD, TILE, main
from tools.demo.material import read_json

COLOURS = {"true": (200, 40, 40), "generated": (40, 40, 200)}


@pytest.fixture
def demo(tmp_path, folder):
    """One speaker with one emotion; the true video is red and longer, the generated one blue."""
    (case,) = [one for one in read_json(folder / "cases" / "cases.json")["asked"] if one["name"].endswith("_happy")]
    case["row"]["emotion.label"] = "happy"
    paths = {"true": tmp_path / "cases" / case["true"], "generated": tmp_path / "videos" / case["row"]["output"]}
    for (name, path), count in zip(paths.items(), (12, 10), strict=True):
        path.parent.mkdir(parents=True)
        frames = np.full((count, 64, 64, 3), COLOURS[name], np.uint8)
        frames[:, :8] += np.arange(count, dtype=np.uint8)[:, None, None, None] * 5
        videos.write_video(path, frames, sound=np.zeros(count * 640, np.float32))
    (tmp_path / "cases" / "portraits").mkdir()
    Image.new("RGB", (64, 64), (40, 200, 40)).save(tmp_path / "cases" / case["row"]["portrait"])
    (tmp_path / "cases" / "cases.json").write_text(json.dumps({"asked": [case]}))
    return tmp_path


def test_true_above_generated_next_to_the_portrait(demo):
    main([str(demo), f"output={demo / 'a.webp'}"])
    with Image.open(demo / "a.webp") as picture:
        # Equal frames are stored once, so durations are summed.
        lasts = sum(frame.convert("RGB").info["duration"] for frame in ImageSequence.Iterator(picture))
        assert (lasts, picture.info["loop"]) == (10 * 40, 0)
        picture.seek(0)
        assert picture.size == (2 * TILE + GAP, 2 * (HEAD + TILE))
        frame = np.asarray(picture.convert("RGB")).astype(int)
    middle, column = TILE // 2, TILE + GAP + TILE // 2
    for colour, row in zip(COLOURS.values(), (HEAD + middle, 2 * HEAD + TILE + middle), strict=True):
        assert np.abs(frame[row, column] - colour).max() < 16
    assert np.abs(frame[HEAD + TILE, middle] - (40, 200, 40)).max() < 16


def test_a_folder_without_labelled_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no case with an emotion label"):
        main([str(tmp_path), f"output={tmp_path / 'a.webp'}"])
