"""Layout ``manifest``: lists in three formats, and errors by row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.preparation import DatasetConfig
from preparation.layouts import LayoutError, find_clips
from tests.helpers.files import touch

ROWS = [
    {"path": "a/one.mp4", "start": 0.0, "end": 2.0, "speaker": "ann", "split": "test", "emotion": "happy", "level": 2},
    {"path": "a/one.mp4", "start": 2.0, "end": 4.5, "speaker": "ann"},
    {"path": "b/two.mp4", "sound": "b/two.wav", "box": "10, 20, 300, 300"},
]


def found(folder: Path, path: Path, **settings):
    return find_clips(DatasetConfig(name="manifest", list_file=str(path), **settings), folder)


def write_list(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([])) if not rows else pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = sorted({name for row in rows for name in row})
        lines = [names, *([f'"{row.get(name, "")}"' for name in names] for row in rows)]
        path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return path


@pytest.fixture
def videos(tmp_path):
    touch(tmp_path / "videos", "a/one.mp4", "b/two.mp4", "b/two.wav", "b/unlisted.mp4")
    return tmp_path / "videos"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_three_formats_give_the_same_clips(tmp_path, videos, ending):
    everything = [{name: row.get(name) for name in ("path", "start", "end", "speaker", "split", "emotion", "level",
                   "sound", "box")} for row in ROWS]  # fmt: skip
    listed = found(videos, write_list(tmp_path / f"clips{ending}", everything if ending == ".parquet" else ROWS))
    first, second, third = listed.clips
    assert (first.key, first.start, first.end) == ("a--one--0000000-0002000", 0.0, 2.0)
    assert (first.speaker, first.split, first.emotion, first.level) == ("ann", "test", "happy", 2)
    assert (second.start, second.end, second.split, second.level) == (2.0, 4.5, "train", None)
    assert (third.key, third.speaker, third.crop) == ("b--two", "b", (10, 20, 300, 300))
    assert third.audio == videos / "b/two.wav"
    assert listed.ignored == {"videos that are not in the list": 1}


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"path": "no.mp4"}, "row 2: no.mp4 is no video below the source folder"),
        ({"path": "../secret.mp4"}, "is no video below"),
        ({"start": 3}, "has no path"),
        ({"path": "a/one.mp4", "start": "soon"}, "start is 'soon', expected a number"),
        ({"path": "a/one.mp4", "start": 3, "end": 2}, "expected 0 <= start < end"),
        ({"path": "a/one.mp4", "level": 7}, "level is 7, expected 1, 2 or 3"),
        ({"path": "a/one.mp4", "split": "dev"}, "split is dev, expected train, val, test"),
        ({"path": "a/one.mp4", "box": "1 2 3"}, "expected left, top, width and height"),
        ({"path": "a/one.mp4", "sound": "none.wav"}, "none.wav is no sound file"),
        ({"path": "b/two.mp4", "start": 1, "end": 2}, "row 2: overlaps row 1 of the same video"),
        (7, "has no path"),
    ],
)
def test_an_error_costs_its_row_only(tmp_path, videos, row, detail):
    clips = found(videos, write_list(tmp_path / "clips.jsonl", [{"path": "b/two.mp4"}, row])).clips
    (bad,) = [clip for clip in clips if clip.problem]
    assert detail in bad.problem_detail
    assert [clip.key for clip in clips if not clip.problem] == ["b--two"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("clips.csv", "file,start\na.mp4,0\n", "has no column path (found file, start)"),
        ("clips.csv", "", "has no column path"),
        ("clips.jsonl", "{", "cannot be read"),
        ("clips.jsonl", "[" * 100_000, "cannot be read"),
        ("clips.parquet", "no table", "cannot be read"),
        ("clips.txt", "", "expected a file that ends in"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(tmp_path, videos, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(LayoutError) as caught:
        found(videos, tmp_path / name)
    assert message in str(caught.value)


def test_a_missing_list_and_a_list_for_another_layout_are_refused(tmp_path, videos):
    with pytest.raises(LayoutError, match="cannot be read"):
        found(videos, tmp_path / "none.csv")
    with pytest.raises(LayoutError, match="list_file is missing"):
        find_clips(DatasetConfig(name="manifest"), videos)
    with pytest.raises(LayoutError, match="only manifest takes it"):
        find_clips(DatasetConfig(name="folder", list_file="x.csv"), videos)
