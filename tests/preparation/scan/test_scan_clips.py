"""Scans of a folder: resumed, in parts, killed, with changed and damaged files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from configs.command_line import compose
from configs.preparation import PrepareConfig
from datamodules.schema import Index, ShardError
from preparation.check import check
from preparation.layouts import find_clips
from preparation.scan.scan_clips import _file, _scan, merge_scan, read_scan, table_path
from preparation.synthetic import write_dataset
from preparation.tasks import TASKS
from runtime.locks import LockedError, locked
from tests.helpers import ROOT, warm
from tests.helpers.processes import children

pytestmark = pytest.mark.slow


def command(task: str, source: Path, output: Path, **keys: object) -> list[str]:
    settings = {"task": task, "dataset": "folder", "preset": "tiny", "source": source, "output": output} | keys
    return [sys.executable, "prepare.py", *[f"{key}={value}" for key, value in settings.items()]]


def run(task: str, source: Path, output: Path, status: int = 0, **keys: object) -> str:
    """Runs a task in this process, with real workers; returns what it printed."""
    settings = command(task, source, output, **keys)[2:]
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        assert TASKS[task](compose("prepare", PrepareConfig, settings)) == status, printed.getvalue()
    return printed.getvalue().replace("\n", " ")


@pytest.fixture(scope="session")
def videos(once) -> Path:
    """Three synthetic speakers with two clips each, and a copy of one."""

    def make(folder: Path) -> None:
        first, *_ = write_dataset(
            folder, layout="hdtf", identities=3, clips_per_identity=2, seconds=2.4, size=96, seed=5
        )
        for ending in (".mp4", ".csv"):
            shutil.copy(first.with_suffix(ending), folder / f"Zcopy{ending}")

    return once("scan videos", make)


@pytest.fixture(scope="session")
def whole(videos, once) -> Path:
    return once("scan whole", lambda output: run("scan", videos, output, workers=1))


def test_a_killed_scan_goes_on_with_the_same_bytes(videos, whole, tmp_path):
    table = table_path(whole).read_bytes()
    process = warm.Popen(command("scan", videos, tmp_path, workers=2), cwd=ROOT)
    while not list(tmp_path.glob("scan/parts/*/*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    started = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(started, 20)[1]
    assert not table_path(tmp_path).exists()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scan/parts/*/*.json")}
    run("scan", videos, tmp_path, workers=1)
    assert table_path(tmp_path).read_bytes() == table
    assert {path: path.stat().st_mtime_ns for path in done} == done


@pytest.mark.nightly
def test_parts_give_the_table_of_one_run(videos, whole, tmp_path):
    assert "others are not" in run("scan", videos, tmp_path, part="1/2", workers=1)
    assert not table_path(tmp_path).exists()
    run("scan", videos, tmp_path, part="2/2", workers=1)
    assert table_path(tmp_path).read_bytes() == table_path(whole).read_bytes()


def test_a_failed_clip_is_scanned_again_when_its_file_is_mended(videos, whole, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, source)
    clip = source / "Zcopy.mp4"
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    (source / "words.mp4").write_text("no video")
    assert "2 of 8 clips could not be read" in run("scan", source, output, status=3, workers=1)
    problems = {row["clip"]: row["problem"] for row in read_scan(output).to_pylist() if row["problem"]}
    assert problems == {"Zcopy": "decode_error", "words": "decode_error"}
    clip.write_bytes(data)
    (source / "words.mp4").unlink()
    run("scan", source, output, workers=1)
    names = ["path"]  # of another folder
    assert read_scan(output).drop_columns(names).equals(read_scan(whole).drop_columns(names))


def test_shots_are_encoded_and_duplicates_left_out(videos, whole, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    copies = [row["duplicate_of"] for row in read_scan(output).to_pylist() if row["clip"] == "Zcopy"]
    assert copies == ["WDA_SynthAbel_000"]
    run("encode", videos, output, workers=1)
    assert check(output) == []
    assert len(Index.read(output).samples) == 6
    clips = {clip["source"]: clip for clip in json.loads((output / "report.json").read_text())["clips"]}
    assert (clips["Zcopy.mp4"]["reason"], clips["Zcopy.mp4"]["detail"]) == ("not_chosen", "misses duplicate_of is None")
    with pytest.raises(ShardError, match="select was"):
        run("encode", videos, output, select="frames>=60", workers=1)


def test_a_table_of_another_version_or_damaged_is_one_line(whole, tmp_path):
    with pytest.raises(ShardError, match="there is no scan; run prepare.py task=scan"):
        read_scan(tmp_path)
    path = table_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(table_path(whole).read_bytes()[:-9])
    with pytest.raises(ShardError, match="damaged"):
        read_scan(tmp_path)
    table = pq.read_table(table_path(whole))
    settings = json.dumps(json.loads(table.schema.metadata[b"scan"]) | {"schema": 0})
    pq.write_table(table.replace_schema_metadata({"scan": settings}), path)
    with pytest.raises(ShardError, match="is a scan of version 0"):
        read_scan(tmp_path)


def test_a_video_that_changed_since_its_scan_is_not_encoded_by_the_old_one(videos, whole, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, source)
    shutil.copytree(whole, output)
    clip = source / "Zcopy.mp4"
    os.utime(clip)  # another time, the same content
    run("encode", source, output, workers=1)
    clip.write_bytes(clip.read_bytes() + b"\0\0\0\x08free")
    with pytest.raises(ShardError, match=r"1 videos have changed .* \(Zcopy\.mp4\); run task=scan"):
        run("encode", source, output, workers=1)
    config = compose("prepare", PrepareConfig, command("scan", source, output)[2:])
    table = merge_scan(config, find_clips(config.dataset, source).clips, output)
    assert table is not None
    problems = {row["clip"]: row["detail"] for row in table.to_pylist() if row["problem"]}
    assert problems == {"Zcopy": "has changed since it was scanned; run task=scan again"}
    run("scan", source, output, workers=1)
    assert not any(read_scan(output)["problem"].to_pylist())


def test_the_file_of_a_part_is_the_one_before_it_was_read(videos, tmp_path, monkeypatch):
    """A video that is replaced while it is read is scanned again, since its part names the one before."""
    source = tmp_path / "videos"
    source.mkdir()
    for ending in (".mp4", ".csv"):
        shutil.copy(videos / f"Zcopy{ending}", source)
    config = compose("prepare", PrepareConfig, command("scan", source, tmp_path)[2:])
    (clip,) = find_clips(config.dataset, source).clips
    before = _file(clip)
    monkeypatch.setattr("preparation.scan.scan_clips._state", {"config": config, "folder": None})

    def changing(clip, *_):
        clip.path.write_bytes(clip.path.read_bytes() + b"\0\0\0\x08free")
        return []

    monkeypatch.setattr("preparation.scan.scan_clips.scan_clip", changing)
    assert _scan(clip)[0] == before != _file(clip)


def test_a_scan_of_an_archive_is_that_of_the_unpacked_folder(videos, whole, tmp_path):
    source, output = tmp_path / "packed", tmp_path / "out"
    source.mkdir()
    with tarfile.open(source / "all.tar", "w") as tar:
        for path in sorted(videos.iterdir(), reverse=True):
            tar.add(path, path.name)
    run("scan", source, output, workers=1)
    names = ["path"]
    assert read_scan(output).drop_columns(names).equals(read_scan(whole).drop_columns(names))
    paths = read_scan(output)["path"].to_pylist()
    assert paths[0] == str(source / "all.tar" / Path(read_scan(whole)["path"][0].as_py()).name)
    (source / "clips.csv").write_text("path,speaker\n" + "".join(f"{path},a\n" for path in dict.fromkeys(paths)))
    settings = {"dataset": "manifest", "dataset.list_file": source / "clips.csv"}
    config = compose("prepare", PrepareConfig, command("scan", source, output, **settings)[2:])
    assert [clip.problem for clip in find_clips(config.dataset, source).clips] == [None] * len(set(paths))


def test_rows_with_errors_fail_and_are_prepared_once_they_are_mended(videos, tmp_path):
    """The others are scanned and encoded at once; a second scan and encoding add the mended ones as new shards."""
    first, second, third, *_ = sorted(path.name for path in videos.glob("WDA*.mp4"))
    lines = ["path,start,end", f"{first},,", f"{second},0,99", f"{third},soon,2", f"{first},0,1", "gone.mp4,,"]
    clips = tmp_path / "clips.csv"
    clips.write_text("\n".join(lines))
    output = tmp_path / "out"
    settings = {
        "dataset": "manifest",
        "dataset.list_file": clips,
        "workers": 1,
        "max_rejected": 1,
        "select": "frames>9",
    }
    printed = run("scan", videos, output, 3, **settings)
    assert "3 of 5 rows have errors: row 3: start is 'soon'" in printed
    assert "4 of 5 clips could not be read" in printed
    rows = {row["clip"]: row for row in read_scan(output).to_pylist()}
    assert len(rows) == 5
    assert sorted(str(row["problem"]) for row in rows.values()) == [
        "None",
        "bad_row",
        "bad_row",
        "bad_row",
        "outside_video",
    ]
    assert "4 of 5 clips failed" in run("encode", videos, output, 3, **settings)
    shards = {path.name: path.read_bytes() for path in output.glob("*.tar")}
    assert len(Index.read(output).samples) == 1
    clips.write_text("\n".join([*lines[:2], f"{second},0,2", f"{third},,2"]))
    run("scan", videos, output, **settings)
    run("encode", videos, output, **settings)
    assert check(output) == []
    assert len(Index.read(output).samples) == 3
    report = json.loads((output / "report.json").read_text())["clips"]
    assert [clip["status"] for clip in report] == ["kept"] * 3
    assert {path.name: path.read_bytes() for path in output.glob("*.tar")}.items() >= shards.items()


def test_a_video_replaced_after_its_encoding_failed_gets_the_spans_of_its_second_scan(videos, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "out"
    source.mkdir()
    for name in ("Zcopy", "WDA_SynthAbel_001"):
        for ending in (".mp4", ".csv"):
            shutil.copy(videos / f"{name}{ending}", source)
    whole = (source / "Zcopy.mp4").read_bytes()
    (source / "Zcopy.mp4").write_bytes(whole[: len(whole) // 2])
    settings = {"workers": 1, "max_rejected": 1}
    run("scan", source, output, 3, select="frames>9", **settings)
    run("encode", source, output, 3, select="frames>9", **settings)
    (source / "Zcopy.mp4").write_bytes(whole)
    run("scan", source, output, select="frames>9", **settings)
    run("encode", source, output, select="frames>9", **settings)
    assert check(output) == []
    assert len(Index.read(output).samples) == 2
    (report,) = (clip for clip in json.loads((output / "report.json").read_text())["clips"] if clip["key"] == "Zcopy")
    assert (report["status"], report["frames"]) == ("kept", 60)


def test_the_list_of_chosen_shots_is_a_list_of_clips(videos, tmp_path):
    name = sorted(path.name for path in videos.glob("WDA*.mp4"))[0]
    clips = tmp_path / "clips.csv"
    clips.write_text(f"path,start,end,speaker,emotion,level,split,box\n{name},0.2,2,ann,sad,2,test,0 0 96 96\n")
    settings = {"dataset": "manifest", "dataset.list_file": clips, "workers": 1, "select": "frames>9"}
    run("scan", videos, tmp_path, **settings)
    run("choose", videos, tmp_path, **settings)
    chosen = {"dataset": "manifest", "dataset.list_file": tmp_path / "scan/chosen.csv"}
    configs = [
        compose("prepare", PrepareConfig, command("scan", videos, tmp_path, **keys)[2:]) for keys in (settings, chosen)
    ]
    (listed,), (again,) = (find_clips(config.dataset, videos).clips for config in configs)
    assert again == replace(listed, key=again.key, start=again.start, end=again.end)
    assert (again.start, again.end) == (pytest.approx(0.2, abs=0.05), pytest.approx(2, abs=0.05))


def test_one_command_scans_and_encodes(videos, whole, tmp_path):
    printed = run("all", videos, tmp_path, part="1/2", workers=1)
    assert "run the same command again" in printed
    assert not list(tmp_path.glob("*.tar"))
    printed = run("all", videos, tmp_path, workers=1)
    assert "plan: 6 clips, 0.00 h, about 0.01 GB" in printed
    assert check(tmp_path) == []
    assert len(Index.read(tmp_path).samples) == 6
    assert table_path(tmp_path).read_bytes() == table_path(whole).read_bytes()


@pytest.mark.parametrize(("task", "lock"), [("scan", "scan/.part-0-of-1.lock"), ("encode", "parts/.part-1-of-1.lock")])
def test_a_second_run_into_one_output_is_refused(tmp_path, task, lock):
    (tmp_path / lock).parent.mkdir()
    with (
        locked(tmp_path / lock, "the output", "wait"),
        pytest.raises(
            LockedError, match="is being written by process .*; wait for it, or give each process another part"
        ),
    ):
        run(task, tmp_path, tmp_path)
