"""No command of the benchmark replaces or removes a file that it did not write; its own files it does."""

import json

import numpy as np
import pytest

from benchmark import not_run, test_sets
from benchmark.figures.__main__ import main as figures
from benchmark.pseudo_systems import make_pseudo_systems
from benchmark.runner import run_system
from benchmark.tables.reading import USER_STUDY
from benchmark.tables.rebuild_tables import make_tables
from benchmark.user_study.answers import write_study
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from runtime.ownership import ForeignFileError
from tests.helpers.synthetic_videos import write_speakers
from tests.helpers.videos import write_video

THEIRS = b"annotations of a year"


def refused(path, call, *arguments):
    """Puts a file where a command would write, and checks that it stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(THEIRS)
    with pytest.raises(ForeignFileError, match="was not written by this program and is not replaced") as error:
        call(*arguments)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == THEIRS
    path.unlink()


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["table1.csv", "table1.md", "tables.tex"])
def test_tables(tmp_path, put, name):
    put("a.json", {"fid": 22.0}, system="hallo")
    config = TableConfig(results=str(tmp_path / "results"), output=str(tmp_path / "paper"), table="1")
    refused(tmp_path / "paper" / name, make_tables, config)
    make_tables(config)
    put("a.json", {"fid": 23.0}, system="hallo")
    make_tables(config)  # its own are replaced
    assert "23.00" in (tmp_path / "paper" / "table1.md").read_text()


def test_a_figure(tmp_path):
    grey = [np.full((64, 64, 3), 100, np.uint8)] * 25
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", grey)
    typed = ["4", f"with_dicte={tmp_path / 'a.mp4'}", f"without_dicte={tmp_path / 'b.mp4'}"]
    refused(tmp_path / "four.png", figures, [*typed, f"output={tmp_path / 'four.png'}"])
    for _ in range(2):
        figures([*typed, f"output={tmp_path / 'four.png'}"])


def test_systems_without_clips(tmp_path):
    (tmp_path / "run" / "records").mkdir(parents=True)
    record = {"status": "failed", "reason": "no weights", "system": "hallo"}
    content = {"schema": not_run.RECORD, "record": record, "system": {"driven": "A+V"}}
    (tmp_path / "run" / "records" / "a.json").write_text(json.dumps(content))
    typed = [f"runs={tmp_path / 'run'}", "dataset=hdtf", f"output={tmp_path / 'lost.json'}"]
    refused(tmp_path / "lost.json", not_run.main, typed)
    for _ in range(2):
        not_run.main(typed)


def test_the_results_of_a_study(tmp_path):
    refused(tmp_path / "study.json", write_study, {"schema": USER_STUDY}, tmp_path / "study.json")
    for _ in range(2):
        write_study({"schema": USER_STUDY}, tmp_path / "study.json")


@pytest.mark.slow
def test_pseudo_systems(tmp_path):
    real, made = write_speakers(tmp_path / "real", 2), tmp_path / "made"
    for name in ("clip1.mp4", "clip1.csv", "clip0.factors.npz"):
        refused(made / "still_image" / name, make_pseudo_systems, real, made)
    assert not list(made.rglob("*.mp4"))  # found before work began
    make_pseudo_systems(real, made)
    before = files_of(made)
    make_pseudo_systems(real, made)
    assert files_of(made) == before


@pytest.mark.slow
def test_a_test_set_and_the_clips_of_a_system(tmp_path):
    typed = ["synthetic", f"output={tmp_path / 'set'}", "clips=1", "seconds=1"]
    test_sets.main(typed)
    (clip,) = json.loads((tmp_path / "set" / "test_set.json").read_text())["clips"]
    other = tmp_path / "other"
    for name in (f"drawn/{clip['clip']}.csv", f"portraits/{clip['clip']}.png", "cases_A.csv", "test_set.json"):
        refused(other / name, test_sets.main, [typed[0], f"output={other}", *typed[2:]])
    places = {"cases": str(tmp_path / "set" / "cases_AV.csv"), "output": str(tmp_path / "out")}
    config = RunSystemConfig(system="ground_truth", **places, size=48, device="cpu", landmarks="sidecar")
    for name in (f"videos/{clip['clip']}.mp4", f"records/{clip['clip']}.json", f"videos/{clip['clip']}.csv"):
        refused(tmp_path / "out" / name, run_system, config)
    assert run_system(config) == 0
    config.size = 64
    (tmp_path / "out" / ".emotivetalk.json").unlink()  # as an earlier version left it
    assert run_system(config) == 0
