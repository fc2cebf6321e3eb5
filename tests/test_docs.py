"""The pages on adding a metric, a motion encoder and a dataset, done as written in a copy of the repository."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PARTS = sorted(file.parent.name for file in ROOT.glob("*/__init__.py"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The packages the pages touch and what those import, under git as a clone is."""
    for name in PARTS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("prepare.py", "evaluate.py"):
        shutil.copy(ROOT / script, tmp_path)
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    return tmp_path


def follow(page: str, copy: Path) -> list[str]:
    """Makes every file and every change of a page; returns its commands."""
    commands = []
    for language, block in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if language == "diff":
            told = subprocess.run(["git", "apply", "-"], input=block, text=True, cwd=copy, capture_output=True)
            assert told.returncode == 0, f"{page}:\n{block}\n{told.stderr}"
        elif language == "bash":
            commands += [line for line in block.splitlines() if line]
        else:
            first, rest = block.split("\n", 1)
            file = copy / first.removeprefix("# ")
            assert not file.exists()
            file.write_text(rest, encoding="utf-8")
    return commands


def run(copy: Path, program: str, *arguments: str) -> str:
    told = subprocess.run(
        [sys.executable, *program.split(), *arguments], cwd=copy, capture_output=True, text=True, timeout=250
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(page.name for page in (ROOT / "docs").glob("adding_a_*.md")))
def test_the_changes_apply_and_are_clean(page, copy):
    assert follow(page, copy)
    shutil.copy(ROOT / "pyproject.toml", copy)
    run(copy, "-m ruff check -q .")
    run(copy, "-m ruff format -q --check .")


@pytest.mark.slow
def test_a_motion_encoder_prepares_shards(copy):
    prepare, check = follow("adding_a_motion_encoder.md", copy)
    run(copy, prepare.removeprefix("python "), "dataset.seconds=1", "dataset.size=64", "workers=1")
    assert "jaw" in (copy / "data" / "jaw" / "index.json").read_text(encoding="utf-8")
    run(copy, check.removeprefix("python "))


def test_a_dataset_is_listed_with_emotions_and_whole_people(copy):
    follow("adding_a_dataset.md", copy)
    names = [
        f"{actor}_DFA_{emotion}_{level}.flv"
        for actor in (1001, 1002)
        for emotion, level in (("ANG", "HI"), ("NEU", "XX"))
    ]
    (copy / "videos").mkdir()
    for name in (*names, "odd.flv"):
        (copy / "videos" / name).touch()
    listing = """
from pathlib import Path
from configs.command_line import compose
from configs.preparation import PrepareConfig
from configs.rules import check
from datamodules.mixture import DATAMODULES
from preparation.layouts import find_clips
config = compose("prepare", PrepareConfig, ["dataset=crema_d", "preset=small", "source=videos", "output=data"])
check(config)
for clip in find_clips(config.dataset, Path("videos")).clips:
    print(clip.name, clip.speaker, clip.emotion, clip.level, clip.split, clip.problem, sep="|")
print(DATAMODULES["crema_d"].dataset)
"""
    *clips, dataset = run(copy, "-c", listing).splitlines()
    assert dataset == "crema_d"
    rows = {row[0]: row[1:] for row in (clip.split("|") for clip in clips)}
    assert rows["1001_DFA_ANG_HI.flv"][:3] == ["1001", "angry", "3"]
    assert rows["1002_DFA_NEU_XX.flv"][:3] == ["1002", "neutral", "1"]
    assert rows["odd.flv"][-1] == "unknown_name"
    for actor in ("1001", "1002"):
        assert len({row[3] for row in rows.values() if row[0] == actor}) == 1


@pytest.mark.slow
def test_a_metric_is_computed_and_right(copy):
    from media import VideoWriter

    (command,) = follow("adding_a_metric.md", copy)
    for folder, shift in (("real", 0), ("out", 30)):
        (copy / folder).mkdir()
        for clip in range(2):
            with VideoWriter(copy / folder / f"{clip}.mp4", size=(32, 32), crf=0) as video:
                for level in range(60 + clip, 156, 8):
                    video.write(np.full((32, 32, 3), level + shift, np.uint8))
    run(copy, command.removeprefix("python "), "bootstrap=0", "device=cpu", "cache=cache")
    found = json.loads((copy / "results" / "colour.json").read_text())["metrics"]["colour"]
    assert found["value"] == pytest.approx(3 * 30**2, rel=0.05)  # three channels, 30 apart, equal otherwise
