"""Steps: when they are done, and what is removed before they run again."""

import shlex

import pytest

from tests.helpers.refusals import refuses
from tools.pipeline.step import (
    ChainError,
    Files,
    Step,
    StepRecord,
    TrainingSteps,
    fingerprint,
    is_done,
    remove_products,
)


@pytest.fixture
def step(tmp_path):
    (tmp_path / "in.txt").write_text("a")
    return Step("copy", "Copy", ("-c", "pass"), (tmp_path / "in.txt",), (tmp_path / "out",))


def record(step, folder, done=True):
    StepRecord(step.digest(), done, 1.0, 1.0, "", step.typed).write(folder, step)


def test_a_step_is_done_while_command_inputs_and_outputs_are_unchanged(step, tmp_path):
    (tmp_path / "out").mkdir()
    record(step, tmp_path, done=False)
    assert not is_done(step, tmp_path, step.digest())
    record(step, tmp_path)
    assert is_done(step, tmp_path, step.digest())
    (tmp_path / "in.txt").write_text("b")
    assert not is_done(step, tmp_path, step.digest())
    (tmp_path / "in.txt").write_text("a")
    assert is_done(step, tmp_path, step.digest())
    other = Step("copy", "Copy", ("-c", "pass "), step.reads, step.writes)
    assert not is_done(other, tmp_path, other.digest())
    (tmp_path / "out").rmdir()
    assert not is_done(step, tmp_path, step.digest())


def test_a_damaged_record_is_ignored(step, tmp_path):
    record(step, tmp_path)
    (tmp_path / ".steps" / "copy.json").write_text('{"digest": "x"}')
    assert StepRecord.read(tmp_path, step) is None


def test_a_folders_fingerprint_covers_names_and_content_of_its_files(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("1")
    first = fingerprint(folder)
    (folder / ".hidden").write_text("not an input")
    assert fingerprint(folder) == first
    (folder / "deep" / "a").rename(folder / "deep" / "b")
    second = fingerprint(folder)
    (folder / "deep" / "b").write_text("2")
    assert len({first, second, fingerprint(folder)}) == 3
    refuses(ChainError, "does not exist", fingerprint, tmp_path / "nothing")


def test_nothing_is_removed_outside_the_folder(tmp_path):
    outside = tmp_path / "precious"
    outside.mkdir()
    folder = tmp_path / "chain"
    (folder / "link").parent.mkdir()
    (folder / "link").symlink_to(outside)
    for path in (outside, folder / ".." / "precious", folder / "link", folder):
        refuses(ChainError, "outside", remove_products, Step("x", "X", (), writes=(path,)), folder)
    assert outside.exists()
    (folder / "made").mkdir()
    (folder / "output.json").write_text("{}")
    remove_products(Step("x", "X", (), writes=(folder / "made",), stdout=folder / "output.json"), folder)
    assert [path.name for path in folder.iterdir()] == ["link"]


def test_the_typed_command_can_be_parsed_by_a_shell():
    step = Step("x", "X", ("train.py", "source=my videos (1)", "data.roots={a: b}"))
    assert shlex.split(step.typed) == ["python", "train.py", "source=my videos (1)", "data.roots={a: b}"]


def test_progress_is_measured_by_written_files(tmp_path):
    steps = TrainingSteps(tmp_path, 100)
    assert steps.done() == 0
    (tmp_path / "csv").mkdir()
    for name, last in (("metrics-1.csv", 89), ("metrics.csv", 29)):  # a run that starts anew renames the previous table
        (tmp_path / "csv" / name).write_text(f"step,loss\n9,1.0\n,\n{last},0.5\n")
    assert steps.done() == 30
    (tmp_path / "a.mp4").touch()
    (tmp_path / ".b.mp4.partial.mp4").touch()
    assert Files(tmp_path, "*.mp4", 5, "videos").done() == 1
