"""Layout ``manifest``: lists in three formats, and errors by row."""

import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.preparation import DatasetConfig
from preparation.clip_source import FAILURES, Reason
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
        ({"path": ["a/one.mp4"]}, "path is ['a/one.mp4'], expected the path of a video"),
        ({"path": "a/one.mp4", "start": True}, "start is True, expected a number"),
        ({"path": "a/one.mp4", "start": "1,5"}, "start is '1,5', expected a number, e.g. 1.5"),
        ({"path": "a/one.mp4", "speaker": {"name": "ann"}}, "speaker is {'name': 'ann'}, expected a text"),
        ({"path": "a/one.mp4", "emotion": ["happy"]}, "emotion is ['happy'], expected a text"),
        ({"path": "a/one.mp4", "box": [0, 0, 9]}, "box is [0, 0, 9], expected left"),
        ({"path": "a/bro\nken.mp4"}, "a/bro"),
        ({"path": "gone.mp4"}, "gone.mp4 is a broken link"),
        ({"path": "b/two.mp4", "start": 1, "end": 2}, "row 2: overlaps row 1 of the same video"),
        (7, "row 2: is no JSON object"),
    ],
)
def test_an_error_costs_its_row_only(tmp_path, videos, row, detail):
    (videos / "gone.mp4").symlink_to("nowhere.mp4")
    (videos / "gone_too.mp4").symlink_to("nowhere.mp4")
    listed = found(videos, write_list(tmp_path / "clips.jsonl", [{"path": "b/two.mp4"}, row]))
    (bad,) = [clip for clip in listed.clips if clip.problem]
    assert bad.problem == Reason.BAD_ROW
    assert bad.problem in FAILURES
    assert detail in bad.problem_detail
    assert [clip.key for clip in listed.clips if not clip.problem] == ["b--two"]
    assert f"1 of 2 rows have errors: {bad.problem_detail}" in listed.notes[-1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("clips.csv", "file,start\na.mp4,0\n", "has no column path (found file, start)"),
        ("clips.csv", "", "has no column path"),
        ("clips.csv", "path,start\n", "has no column path"),
        ("clips.csv", '"path,start\na.mp4,0\n', "a quotation mark that is not closed"),
        ("clips.jsonl", "{", "is not JSON"),
        ("clips.jsonl", "[" * 100_000, "is nested too deeply"),
        ("clips.jsonl", "7", "is no JSON object"),
        ("clips.parquet", "no table", "cannot be read"),
        ("clips.txt", "", "expected a file that ends in"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(tmp_path, videos, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(LayoutError) as caught:
        found(videos, tmp_path / name)
    assert message in str(caught.value)


def tables(text: bytes) -> list[bytes]:
    """One table as different programs write it."""
    spreadsheet = text.replace(b",", b";").replace(b"\n", b"\r\n")
    return [
        text,
        b"\xef\xbb\xbf" + spreadsheet,
        text.replace(b",", b"\t"),
        text.replace(b"\n", b"\r"),
        text.decode().encode("utf-16"),
        b"\n" + text + b",,,\n",
        text.replace(b"path,start", b" Path ,START"),
    ]


@pytest.mark.parametrize("written", range(7))
def test_tables_of_spreadsheets_are_read(tmp_path, videos, written):
    text = 'path,start,end,speaker\n"a/one.mp4",0,1.5,"Ann ""A"" Möller "\n a/one.mp4,1.5,,\n'
    (tmp_path / "clips.csv").write_bytes(tables(text.encode())[written])
    listed = found(videos, tmp_path / "clips.csv")
    clips = [(clip.start, clip.end, clip.speaker, clip.problem) for clip in listed.clips]
    assert clips == [(0.0, 1.5, 'Ann "A" Möller', None), (1.5, None, "a", None)]
    assert listed.notes == []


def test_rows_of_a_table_that_cannot_be_read_cost_themselves(tmp_path, videos):
    lines = [
        b"path,start,end,text",
        b'a/one.mp4,0,1,"two\nlines"',
        b'a/one.mp4,1,2,"never closed',
        b"a/one.mp4,2,3,a\x0cfeed and \xe2\x80\xa8 a separator",
        b"a/one.mp4,3,4,10,20,30,40",
        b"a/one.mp4,4",
        b'a/one.mp4,4,5,"a" b',
        b"a/one.mp4,5,6,b" + b"x" * 200_000,
        b"\xff.mp4,0,1,",
        b"nothing/\xff.mp4,0,1,",
        b"a/one.mp4,6,7,\xff",
    ]
    (videos / os.fsdecode(b"\xff.mp4")).touch()
    (tmp_path / "clips.csv").write_bytes(b"\n".join(lines))
    clips = found(videos, tmp_path / "clips.csv").clips
    assert sorted(clip.start for clip in clips if not clip.problem) == [0.0, 0.0, 2.0, 6.0]
    details = sorted(clip.problem_detail for clip in clips if clip.problem)
    assert details == [
        "row 2: cannot be read: a quotation mark that is not closed",
        "row 4: has 7 values, expected 4, one for each column",
        "row 5: has 2 values, expected 4, one for each column",
        "row 6: cannot be read: ',' expected after '\"'",
        "row 7: cannot be read: field larger than field limit (131072)",
        "row 9: nothing/\\udcff.mp4 is no video below the source folder",
    ]
    assert all(clip.name.isprintable() for clip in clips)


def test_lines_that_are_not_json_cost_themselves(tmp_path, videos):
    lines = [
        b'{"path": "a/one.mp4", "speaker": "an\xe2\x80\xa8n"}',
        b'{"path": "a/one.mp4"',
        b"",
        b'["a/one.mp4"]',
        b'{"path": "b/two.mp4", "start": NaN, "level": 2.0, "speaker": 7.0}',
        b'{"path": "b/unlisted.mp4", "speaker": "\xff"}',
    ]
    (tmp_path / "clips.jsonl").write_bytes(b"\r\n".join(lines))
    clips = found(videos, tmp_path / "clips.jsonl").clips
    assert [(clip.key, clip.speaker, clip.level) for clip in clips if not clip.problem] == [
        ("b--two", "7", 2),
    ]
    details = [clip.problem_detail.partition(":")[0] for clip in clips if clip.problem]
    assert sorted(details) == ["row 1", "row 2", "row 3", "row 5"]


def test_a_thousand_rows_with_errors_leave_the_others(tmp_path, videos):
    rows = [{"path": "a/one.mp4", "start": n, "end": n + (1 if n % 11 == 0 else -1)} for n in range(1100)]
    listed = found(videos, write_list(tmp_path / "clips.csv", rows))
    assert len([clip for clip in listed.clips if not clip.problem]) == 100
    assert "1000 of 1100 rows have errors: row 2: start is 1 and end 0" in listed.notes[-1]


def test_two_people_in_one_picture_are_two_clips(tmp_path, videos):
    row = {"path": "a/one.mp4", "start": 0, "end": 1}
    boxes = [[0, 0, 100, 100], [90, 0, 100, 100], [20, 20, 100, 100], [300, 0, 100, 100]]
    clips = found(videos, write_list(tmp_path / "clips.jsonl", [row | {"box": box} for box in boxes])).clips
    assert {clip.crop[0] for clip in clips if not clip.problem} == {0, 90, 300}
    assert [clip.problem_detail for clip in clips if clip.problem] == ["row 3: overlaps row 1 of the same video"]


def test_equal_keys_are_an_error_of_the_row(tmp_path, videos):
    """Spans are named by milliseconds."""
    rows = [{"path": "a/one.mp4", "start": 1.0, "end": 1.0001}, {"path": "a/one.mp4", "start": 1.0001, "end": 1.0002}]
    bad = [clip.problem_detail for clip in found(videos, write_list(tmp_path / "clips.jsonl", rows)).clips]
    assert "row 2: gives the same key as row 1, a--one--0001000-0001000; change its span or rename its video" in bad


def test_a_long_path_with_a_span_leaves_room_in_a_tar(tmp_path, videos):
    name = "a/" + "long_" * 20 + ".mp4"
    touch(videos, name)
    rows = [{"path": name, "start": 12345.5, "end": 12346.5, "box": [place, 0, 9, 9]} for place in (0, 50)]
    clips = found(videos, write_list(tmp_path / "clips.jsonl", rows)).clips
    members = [f"{clip.key}--s000---000.expression.npy" for clip in clips]
    assert len(set(members)) == 2
    assert max(map(len, members)) <= tarfile.LENGTH_NAME
    assert not any(clip.problem for clip in clips)


def test_emotions_get_the_names_of_mead(tmp_path, videos):
    rows = [{"path": "a/one.mp4", "emotion": "Anger"}, {"path": "b/two.mp4", "emotion": "bored"}]
    listed = found(videos, write_list(tmp_path / "clips.jsonl", rows))
    assert [clip.emotion for clip in listed.clips] == ["angry", "bored"]
    assert "emotions that are not among angry" in listed.notes[0]
    assert "bored (1)" in listed.notes[0]


def test_columns_of_a_table_that_are_not_used_are_not_read(tmp_path, videos):
    table = pa.table({"Path": ["a/one.mp4"], "start": [float("nan")], "wave": [b"x"], "box": [[1, 2, 3, 4]]})
    pq.write_table(table, tmp_path / "clips.parquet")
    listed = found(videos, tmp_path / "clips.parquet")
    assert [(clip.key, clip.start, clip.crop) for clip in listed.clips] == [("a--one", 0.0, (1, 2, 3, 4))]
    assert "columns that are not used: wave" in listed.notes[0]


def test_a_missing_list_and_a_list_for_another_layout_are_refused(tmp_path, videos):
    with pytest.raises(LayoutError, match="cannot be read"):
        found(videos, tmp_path / "none.csv")
    with pytest.raises(LayoutError, match="list_file is missing"):
        find_clips(DatasetConfig(name="manifest"), videos)
    with pytest.raises(LayoutError, match="only manifest takes it"):
        find_clips(DatasetConfig(name="folder", list_file="x.csv"), videos)
