"""Batches: what is finished is left alone, what fails is reported, and the rest is made."""

import json
import shutil

import pytest

from configs.command_line import compose
from configs.generation import GenerateConfig
from generation.generate_videos import SOME_FAILED, generate_videos
from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline


@pytest.fixture
def batch(runs, files, tmp_path):
    """Runs a batch of these rows into a folder that is not there yet."""

    def make(rows, *typed):
        (tmp_path / "cases.csv").write_text("portrait,output,seed\n" + rows)
        keys = [f"batch={tmp_path / 'cases.csv'}", f"speech={files / 'voice.wav'}", f"output={tmp_path / 'new/videos'}"]
        return generate_videos(compose("generate", GenerateConfig, [*keys, f"ethd={runs / 'ethd'}", "steps=1", *typed]))

    return make


@pytest.mark.slow
def test_a_batch_goes_on_where_it_stopped(batch, files, tmp_path, capsys, monkeypatch):
    face, videos = files / "face.png", tmp_path / "new" / "videos"
    rows = f"{face},a.mp4,0\n{tmp_path / 'none.png'},b.mp4,0\n{face},c.mp4,1\n"
    assert batch(rows) == SOME_FAILED
    message = capsys.readouterr().err
    assert "failed" in message
    assert "none.png: no such file" in message
    assert "2 made, 0 were there already, 1 failed" in message
    assert sorted(file.name for file in videos.iterdir()) == ["a.json", "a.mp4", "c.json", "c.mp4"]
    before = {file.name: file.stat().st_mtime_ns for file in videos.iterdir()}

    shutil.copy(face, tmp_path / "none.png")
    shutil.copy(face.with_suffix(".csv"), tmp_path / "none.csv")
    assert batch(rows) == 0
    message = capsys.readouterr().err
    assert "there already" in message
    assert "1 made, 2 were there already, 0 failed" in message
    assert {name: (videos / name).stat().st_mtime_ns for name in before} == before

    monkeypatch.setattr(ModelFiles, "load", lambda *a, **k: pytest.fail("nothing was to be made"))
    assert batch(rows) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [("seed", "was made with other settings"), ("file", "was made with other inputs"), ("record", "has no readable")],
)
def test_what_was_made_otherwise_is_made_again(batch, files, tmp_path, capsys, change, words):
    for ending in ("png", "csv"):
        shutil.copy(files / f"face.{ending}", tmp_path)
    face, record, seed = tmp_path / "face.png", tmp_path / "new" / "videos" / "a.json", int(change == "seed")
    batch(f"{face},a.mp4,0\n")
    if change == "file":
        face.write_bytes(face.read_bytes() + b" ")
    if change == "record":
        record.write_text("{")
    assert batch(f"{face},a.mp4,{seed}\n") == 0
    assert words in capsys.readouterr().err
    assert json.loads(record.read_text())["settings"]["seed"] == seed


@pytest.mark.slow
def test_parts_make_their_own_videos(batch, files, tmp_path):
    batch("".join(f"{files / 'face.png'},{number}.mp4,{number}\n" for number in range(3)), "part=2/2")
    assert sorted(file.stem for file in (tmp_path / "new" / "videos").glob("*.mp4")) == ["1"]


def test_a_fault_nobody_foresaw_costs_one_video(batch, files, tmp_path, capsys, monkeypatch):
    generate = EmotiveTalkPipeline.generate

    def broken(self, case, on_progress=None):
        if case.seed == 0:
            raise ZeroDivisionError("oops")
        return generate(self, case, on_progress)

    monkeypatch.setattr(EmotiveTalkPipeline, "generate", broken)
    assert batch(f"{files / 'face.png'},a.mp4,0\n{files / 'face.png'},b.mp4,1\n") == SOME_FAILED
    assert "ZeroDivisionError: oops (test_generate_videos.py:" in capsys.readouterr().err
    assert (tmp_path / "new" / "videos" / "b.mp4").exists()
