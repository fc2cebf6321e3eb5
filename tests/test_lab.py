"""A lab's own classes outside the checkout: the pages docs/adding_a_*.md, followed literally in an empty folder."""

import csv
import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.schema import Index
from datamodules.splits import SplitError, assign_splits
from encoders.factory import build_as
from encoders.protocols import Identity
from evaluation.metric import build_metric
from generation.model_files import ModelFiles
from lightning_modules.checkpoints import CheckpointError, read_checkpoint
from lightning_modules.ethd.export import KIND, VERSION, export
from lightning_modules.tensor_files import read_file, write_file
from runtime.registry import UnknownName
from tests.helpers import ROOT, warm
from tests.helpers.ethd_run import build_encoders, write_ethd, write_vaid
from tests.helpers.files import touch
from tests.helpers.refusals import refuses
from tests.helpers.synthetic_videos import write_speakers
from tests.helpers.videos import write_video

PAGES = sorted((ROOT / "docs").glob("adding_a_*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(folder: Path) -> dict[str, str]:
    """Writes every file of the pages into a folder; returns script -> its last command."""
    commands = {}
    for page in PAGES:
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            first, rest = block.split("\n", 1)
            if language == "bash":
                commands |= {line.split()[1]: line for line in block.splitlines()}
            else:
                file = folder / first.removeprefix("# ")
                assert not file.exists()
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(rest, encoding="utf-8")
    return commands


def run(folder: Path, *command: str, status: int = 0) -> str:
    done = warm.run([sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def commands(place) -> dict[str, str]:
    return follow(place)


@pytest.mark.slow
def test_the_pages_files_prepare_train_and_evaluate(place, commands):
    for number, file in enumerate(sorted(write_speakers(place / "CREMA-D", clips=2).iterdir())):
        name = ("1001_DFA_HAP_HI", "1002_DFA_NEU_XX")[number // 3]
        file.rename(file.with_name(name + file.name.removeprefix(f"clip{number // 3}")))

    def do(script: str, *more: str) -> None:
        _, _, *arguments = shlex.split(commands[script])
        run(place, str(ROOT / script), *(text.replace("preset=small", "preset=tiny") for text in arguments), *more)

    do("prepare.py", "workers=1")
    index = Index.read(place / "data" / "jaw")
    assert index.dataset == "crema_d"
    assert index.encoders["motion"].name == "jaw"
    assert {sample.emotion for sample in index.samples} == {"happy", "neutral"}
    do("train.py", "data.split=train", "data.workers=0", "trainer.max_steps=5", "trainer.log_every=1")
    with (place / "outputs" / "linear" / "first" / "csv" / "metrics.csv").open() as table:
        losses = [float(row["train/loss"]) for row in csv.DictReader(table) if row["train/loss"]]
    assert losses[-1] < losses[0]
    for folder, shift in (("real", 0), ("out", 30)):
        for clip in range(2):
            frames = [np.full((32, 32, 3), level + shift, np.uint8) for level in range(60 + clip, 156, 8)]
            write_video(place / folder / f"{clip}.mp4", frames, crf=0)
    do("evaluate.py", "bootstrap=0", "device=cpu", "cache=cache", "drift=0.2")
    found = json.loads((place / "results" / "colour.json").read_text())
    assert found["metrics"]["colour"]["value"] == pytest.approx(3 * 30**2, rel=0.05)  # three channels, 30 apart
    assert found["settings"]["metrics"] == ["colour"]
    assert len(found["metrics"]["colour"]["drift"]["windows"]) == 2


@pytest.mark.slow
def test_the_pages_code_passes_the_linter(place, commands):
    for check in ("check", "format --check"):
        config = [f"--config={ROOT / 'pyproject.toml'}", f"--config=src=['{ROOT}']"]
        run(place, "-m", "ruff", *check.split(), "-q", *config, "lab")


def test_a_dataset_has_emotions_and_is_split_by_person(place, commands):
    names = [f"{actor}_DFA_{name}.flv" for actor in (1001, 1002) for name in ("ANG_HI", "NEU_XX")]
    touch(place / "videos", *names, "odd.flv")
    listing = """
import sys
from pathlib import Path
from configs.command_line import compose
from configs.preparation import PrepareConfig
from preparation.layouts import find_clips
sys.path.append("lab")
config = compose("prepare", PrepareConfig, ["dataset.name=crema_d.CremaD"])
for clip in find_clips(config.dataset, Path("videos")).clips:
    print(clip.name, clip.speaker, clip.emotion, clip.level, clip.split, clip.problem, sep="|")
"""
    rows = {row[0]: row[1:] for row in (line.split("|") for line in run(place, "-c", listing).splitlines())}
    assert rows["1001_DFA_ANG_HI.flv"][:3] == ["1001", "angry", "3"]
    assert rows["1002_DFA_NEU_XX.flv"][:3] == ["1002", "neutral", "1"]
    assert rows["odd.flv"][-1] == "unknown_name"
    for actor in ("1001", "1002"):
        assert len({row[3] for row in rows.values() if row[0] == actor}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("prepare dataset.name=hdft", "dataset.name=hdft: there is no such dataset; did you mean hdtf? There are"),
        ("prepare dataset.name=nowhere.Mine", "dataset.name=nowhere.Mine: Python finds no module nowhere; name its"),
        ("prepare dataset.name=json.Mine", "dataset.name=json.Mine: json has no Mine"),
        ("train stage=os.system", "stage=os.system: a stage needs a short name, e.g. name = 'mine'; found None"),
        ("evaluate metrics=[effid]", "metrics=effid: there is no such metric; did you mean efid? There are fid, fvd"),
        ("generate plugins=[motion:nowhere.Jaw]", "plugins=motion:nowhere.Jaw: Python finds no module nowhere"),
        ("generate plugins=[emotion:nowhere.Jaw]", "plugins=emotion:nowhere.Jaw: expected kind:module.Class, kind"),
    ],
)
def test_an_unknown_name_is_one_line(arguments, message):
    script, *rest = arguments.split()
    more = {"prepare": ["source=docs", "output=x"], "train": ["experiment=vaid/tiny"]}
    more["evaluate"] = ["generated=docs", "reference=docs", "output=x"]
    errors = run(ROOT, f"{script}.py", *rest, *more.get(script, []), status=2)
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_stored_file_cannot_import_code(tmp_path, monkeypatch):
    """Class paths as names in indexes, checkpoints, exports and results are refused and not imported."""
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('imported').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    encoders = build_encoders("tiny")
    write_vaid(tmp_path / "vaid", *encoders)
    file = export(write_ethd(tmp_path / "ethd", tmp_path / "vaid", *encoders))
    for name in ("evil.Mine", "evil:Mine", "os.system"):
        for kind in ("landmarks", "audio", "motion", "codec", "text"):
            refuses(UnknownName, rf"{kind}.*={name}: there is no such", build_as, kind, Identity(name))
        with pytest.raises(SplitError, match="no such split"):
            assign_splits(name, "emotivetalk", {"clip": "ann"})  # the dataset's name comes from an index
        refuses(UnknownName, f"metrics={name}", build_metric, name, None, torch.device("cpu"))
        torch.save({"emotivetalk": {"stage": name}}, tmp_path / "a.ckpt")
        with pytest.raises(CheckpointError, match=f"is a checkpoint of stage {name}; expected one of stage vaid"):
            read_checkpoint(tmp_path / "a.ckpt", "vaid")
        header, tensors = read_file(file, KIND, VERSION, "train.py")
        header["card"]["encoders"]["codec"]["name"] = name
        write_file(tmp_path / "a.safetensors", KIND, header, tensors)
        with pytest.raises(UnknownName, match=rf"{name}: .*plugins=\[codec:module.Class\]"):
            ModelFiles(tmp_path / "a.safetensors", device="cpu").load()
    assert "evil" not in sys.modules
    assert not (tmp_path / "imported").exists()
