"""Batches: finished videos are skipped, failures are reported, and the others are generated."""

import json
import os
import shutil

import pytest

from configs.command_line import compose
from configs.generation import GenerateConfig
from generation import inputs
from generation.batch import VideoCase
from generation.generate_videos import SOME_FAILED, generate_videos
from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline
from lightning_modules.ethd.sampler import SamplingError
from media import MediaError


@pytest.fixture
def batch(runs, files, tmp_path):
    """Generates a batch of these rows into a new folder."""

    def make(rows, *typed):
        (tmp_path / "cases.csv").write_text("portrait,output,seed\n" + rows)
        keys = [f"batch={tmp_path / 'cases.csv'}", f"speech={files / 'voice.wav'}", f"output={tmp_path / 'new/videos'}"]
        return generate_videos(compose("generate", GenerateConfig, [*keys, f"ethd={runs / 'ethd'}", "steps=1", *typed]))

    return make


@pytest.mark.slow
def test_a_batch_resumes_and_skips_finished_videos(batch, files, tmp_path, capsys, monkeypatch):
    face, videos = files / "face.png", tmp_path / "new" / "videos"
    rows = f"{face},a.mp4,0\n{tmp_path / 'none.png'},b.mp4,0\n{face},c.mp4,1\n"
    assert batch(rows) == SOME_FAILED
    printed = capsys.readouterr().err
    assert "failed" in printed
    assert "none.png: no such file" in printed
    assert "2 generated, 0 already there, 1 failed" in printed
    assert sorted(file.name for file in videos.iterdir()) == ["a.json", "a.mp4", "c.json", "c.mp4"]
    before = {file.name: file.stat().st_mtime_ns for file in videos.iterdir()}

    shutil.copy(face, tmp_path / "none.png")
    shutil.copy(face.with_suffix(".csv"), tmp_path / "none.csv")
    assert batch(rows) == 0
    printed = capsys.readouterr().err
    assert "already there" in printed
    assert "1 generated, 2 already there, 0 failed" in printed
    assert {name: (videos / name).stat().st_mtime_ns for name in before} == before

    monkeypatch.setattr(ModelFiles, "load", lambda *a, **k: pytest.fail("no network is needed"))
    assert batch(rows) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [("seed", "was made with other settings"), ("file", "was made with other inputs"), ("record", "has no readable")],
)
def test_a_video_of_other_inputs_is_generated_again(batch, files, tmp_path, capsys, change, words):
    for ending in ("png", "csv"):
        shutil.copy(files / f"face.{ending}", tmp_path)
    face, record, seed = tmp_path / "face.png", tmp_path / "new" / "videos" / "a.json", int(change == "seed")
    batch(f"{face},a.mp4,0\n")
    if change == "file":
        face.write_bytes(face.read_bytes() + b" ")
    if change == "record":
        record.write_bytes(record.read_bytes()[:60])
    assert batch(f"{face},a.mp4,{seed}\n") == 0
    assert words in capsys.readouterr().err
    assert json.loads(record.read_text())["settings"]["seed"] == seed


@pytest.mark.slow
def test_files_of_others_next_to_a_video_are_not_replaced(batch, files, tmp_path, capsys):
    """A JSON that is not a record, a video that is not generated, and a JSON next to a generated video."""
    face, videos = files / "face.png", tmp_path / "new" / "videos"
    assert batch(f"{face},ours.mp4,0\n") == 0
    foreign = {"talk.json": b'{"my": "annotations of a year"}', "clip.mp4": b"\0\0\0\x18ftypmp42", "ours.json": b"{"}
    for name, content in foreign.items():
        (videos / name).write_bytes(content)
    capsys.readouterr()
    assert batch(f"{face},talk.mp4,0\n{face},clip.mp4,0\n{face},ours.mp4,1\n{face},new.mp4,0\n") == SOME_FAILED
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.count("was not written by this program and is not replaced") == 3
    assert "1 generated, 0 already there, 3 failed" in printed
    assert {name: (videos / name).read_bytes() for name in foreign} == foreign


@pytest.mark.slow
def test_a_part_generates_only_its_own_videos(batch, files, tmp_path):
    batch("".join(f"{files / 'face.png'},{number}.mp4,{number}\n" for number in range(3)), "part=2/2")
    assert sorted(file.stem for file in (tmp_path / "new" / "videos").glob("*.mp4")) == ["1"]


@pytest.mark.slow
def test_a_hostile_row_fails_alone(batch, files, tmp_path, capsys):
    """A playlist, a pipe, a name with a NUL and an output name that is too long, next to a good row."""
    (tmp_path / "list.png").write_text(f"#EXTM3U\n{files / 'face.png'}\n#EXT-X-ENDLIST\n")
    os.mkfifo(tmp_path / "pipe.png")
    face, rows = files / "face.png", [tmp_path / "list.png", tmp_path / "pipe.png", "a\0b.png"]
    text = "".join(f"{row},{number}.mp4,0\n" for number, row in enumerate(rows))
    assert batch(f"{text}{face},{'n' * 300}.mp4,0\n{face},good.mp4,0\n") == SOME_FAILED
    printed = capsys.readouterr().err
    assert "1 generated, 0 already there, 4 failed" in printed
    for words in ("is not a picture", "is a pipe", "not a possible file name", "choose a shorter name"):
        assert words in printed, printed
    assert sorted(file.name for file in (tmp_path / "new/videos").iterdir()) == ["good.json", "good.mp4"]


def test_an_unexpected_error_fails_one_video_only(batch, files, tmp_path, capsys, monkeypatch):
    generate = EmotiveTalkPipeline.generate

    def broken(self, case, *rest):
        if case.seed == 0:
            raise ZeroDivisionError("oops")
        return generate(self, case, *rest)

    monkeypatch.setattr(EmotiveTalkPipeline, "generate", broken)
    assert batch(f"{files / 'face.png'},a.mp4,0\n{files / 'face.png'},b.mp4,1\n") == SOME_FAILED
    assert "ZeroDivisionError: oops (test_generate_videos.py:" in capsys.readouterr().err
    assert (tmp_path / "new" / "videos" / "b.mp4").exists()


@pytest.fixture
def unloaded(monkeypatch):
    """No network may be loaded."""
    monkeypatch.setattr(ModelFiles, "load", lambda *_: pytest.fail("networks were loaded"))


@pytest.mark.parametrize(
    ("typed", "error", "words"),
    [
        (["speech={files}/face.png"], MediaError, r"face\.png: .*picture"),
        (["speech={files}/none.wav"], MediaError, "no such file"),
        (["portrait={files}/voice.wav"], MediaError, "is sound; expected a picture"),
        (["emotion.video={files}/face.csv"], MediaError, r"face\.csv"),
        (["steps=51"], SamplingError, "steps=51: expected at most 50, as in training"),
        (["overlap=8"], SamplingError, "overlap=8: expected at least 0 and less than the window of 8"),
    ],
)
def test_errors_come_before_the_networks(runs, files, tmp_path, unloaded, typed, error, words):
    given = {"portrait": files / "face.png", "speech": files / "voice.wav", "output": tmp_path / "out.mp4"}
    changed = [argument.format(files=files) for argument in typed]
    names = {argument.partition("=")[0] for argument in changed}
    keys = [f"{key}={value}" for key, value in given.items() if key not in names]
    config = compose("generate", GenerateConfig, [*keys, *changed, f"ethd={runs / 'ethd'}"])
    with pytest.raises(error, match=words):
        generate_videos(config)
    assert not list(tmp_path.iterdir())


def test_a_batch_whose_rows_are_all_broken_loads_nothing(batch, files, tmp_path, capsys, unloaded):
    assert batch(f"{tmp_path / 'none.png'},a.mp4,0\n{files / 'voice.wav'},b.mp4,0\n") == SOME_FAILED
    printed = " ".join(capsys.readouterr().err.split())
    assert "0 generated, 0 already there, 2 failed" in printed
    assert printed.count("failed /") == 2


def test_files_are_looked_at_once(files, monkeypatch, tmp_path):
    shutil.copy(files / "voice.wav", tmp_path / "voice.wav")
    looks = []
    monkeypatch.setitem(inputs._LOOKS, "speech", lambda path, limits: looks.append(path))
    case = VideoCase(files / "face.png", tmp_path / "voice.wav", tmp_path / "out.mp4")
    for _ in range(3):
        inputs.look_at_inputs(case)
    assert len(looks) == 1
    (tmp_path / "voice.wav").write_bytes((files / "voice.wav").read_bytes() + b"\0\0")
    inputs.look_at_inputs(case)
    assert len(looks) == 2
