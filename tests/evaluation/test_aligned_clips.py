"""Both sides of a pair have the same times for any frame rates, offsets and lengths."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation.aligned_clips import Alignment
from evaluation.cache import FeatureStore
from evaluation.clip_records import SCHEMA
from evaluation.pairs import EvaluationError, Missing, Pair
from runtime.files import sha256_of
from tests.helpers.files import overwrite
from tests.helpers.flash_clips import coded, index_of
from tests.helpers.synthetic_videos import write_clip

SIZE = (128, 96)


def write(path, frames, fps=25.0, first=0, step=1.0):
    """Writes a video whose frame k shows the number ``first + k * step``."""
    return write_clip(path, [coded(round(first + k * step), SIZE) for k in range(frames)], fps=fps)


def shown_indices(side):
    return [index_of(frame) for frame in side.reader()]


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def opened(tmp_path, store, generated, real, fps=25.0, panel=None, offset=0, max_gap=0.5):
    return Alignment(fps, panel, offset, max_gap).open(Pair("clip", generated, real), store)


@pytest.mark.slow
def test_frame_rates_are_aligned_by_time(tmp_path, store):
    generated = write(tmp_path / "made.mp4", 60, fps=30.0, step=25 / 30)  # shows the index of the frame at 25 fps
    real = write(tmp_path / "real.mp4", 50)
    clip = opened(tmp_path, store, generated, real)
    assert clip.generated.frames == clip.reference.frames == 50
    gap = np.abs(np.subtract(shown_indices(clip.generated), shown_indices(clip.reference)))
    assert gap.max() <= 1
    assert gap.mean() < 0.7  # without alignment by time it would grow to ten
    assert any("resampled by time from 30.000" in note for note in clip.notes)


def test_longer_side_is_trimmed_with_a_note(tmp_path, store):
    clip = opened(tmp_path, store, write(tmp_path / "made.mp4", 40), write(tmp_path / "real.mp4", 44))
    assert shown_indices(clip.generated) == shown_indices(clip.reference) == list(range(40))
    assert clip.notes == ("reference trimmed from 44 to 40 frames",)


def test_large_difference_in_length_is_refused(tmp_path, store):
    message = opened(tmp_path, store, write(tmp_path / "made.mp4", 30), write(tmp_path / "real.mp4", 50))
    assert isinstance(message, Missing)
    assert "differs by 0.80 s" in message.reason
    assert "(30 and 50 frames at 25 fps)" in message.reason


@pytest.mark.parametrize("offset", [2, -3])
def test_offset_shifts_the_reference(tmp_path, store, offset):
    generated = write(tmp_path / "made.mp4", 30, first=10 + offset)
    clip = opened(tmp_path, store, generated, write(tmp_path / "real.mp4", 30, first=10), offset=offset)
    assert shown_indices(clip.generated) == shown_indices(clip.reference)
    assert clip.generated.frames == 30 - abs(offset)


def recorded(folder, side, path, offset):
    """Writes the record that ``benchmark.run_system`` keeps of a clip."""
    record = folder / "records" / "clip.json"
    record.parent.mkdir(exist_ok=True)
    entry = {"sha256": sha256_of(path), "offset": offset}
    record.write_text(json.dumps({"schema": SCHEMA, "record": {side: entry}}))
    return path


def test_the_offset_is_read_from_the_record_of_the_clip(tmp_path, store):
    made = tmp_path / "run" / "videos"
    made.mkdir(parents=True)
    generated = recorded(tmp_path / "run", "video", write(made / "clip.mp4", 28, first=12), 2)
    real = write(tmp_path / "real.mp4", 30, first=10)
    clip = opened(tmp_path, store, generated, real, offset=None)
    assert shown_indices(clip.generated) == shown_indices(clip.reference) == list(range(12, 40))
    assert clip.generated.encoding == "H.264 crf 8 4:2:0"
    assert any("encoded again by benchmark.run_system: generated H.264 crf 8" in note for note in clip.notes)
    assert opened(tmp_path, store, generated, real, offset=2).reference.start == 2
    with pytest.raises(EvaluationError, match=r"offset=3: the record of .*clip\.mp4 says 2; leave offset out"):
        opened(tmp_path, store, generated, real, offset=3)
    write(made / "clip.mp4", 30, first=10)  # another video, which the record does not describe
    clip = opened(tmp_path, store, generated, real, offset=None)
    assert (clip.reference.start, clip.generated.encoding, clip.notes) == (0, None, ())


def test_panel_is_cropped(tmp_path, store):
    real = write(tmp_path / "real.mp4", 12)
    rows = [np.concatenate([coded(number, SIZE) for number in (200, k, 100)], axis=1) for k in range(12)]
    grid = write_clip(tmp_path / "made.mp4", rows)
    clip = opened(tmp_path, store, grid, real, panel=(SIZE[0], 0, *SIZE))
    assert shown_indices(clip.generated) == shown_indices(clip.reference) == list(range(12))
    assert clip.notes == ()
    message = opened(tmp_path, store, grid, real, panel=(SIZE[0] * 2 + 8, 0, *SIZE))
    assert "exceeds the frames of 384 x 96" in message.reason


def test_reader_of_a_part_of_a_side(tmp_path, store):
    clip = opened(tmp_path, store, write(tmp_path / "made.mp4", 40), write(tmp_path / "real.mp4", 40), offset=3)
    assert [index_of(frame) for frame in clip.reference.reader(5, 4)] == [8, 9, 10, 11]


def test_broken_file_is_reported_with_its_side(tmp_path, store):
    good = write(tmp_path / "good.mp4", 20)
    broken = Path(shutil.copy(good, tmp_path / "broken.mp4"))
    overwrite(broken, broken.stat().st_size // 2, bytes(2000))
    for pair, side in ((Pair("clip", broken, good), "generated"), (Pair("clip", good, broken), "reference")):
        message = Alignment(25.0, None, 0, 0.5).open(pair, store)
        assert isinstance(message, Missing)
        assert message.side == side
        assert "broken.mp4" in message.reason
