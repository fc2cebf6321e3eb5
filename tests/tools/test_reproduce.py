"""The commands of reproduced tables: each is valid, and its inputs are outputs of earlier ones."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from benchmark.paper import paper_table
from configs import rules
from configs.command_line import compose
from configs.evaluation import EvaluateConfig
from configs.generation import ExportConfig, GenerateConfig
from configs.preparation import PrepareConfig
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from configs.training import TrainConfig
from runtime.errors import UserError
from tests.helpers import ROOT
from tests.helpers.files import touch
from tests.helpers.refusals import refuses
from tools.reproduce import __main__ as command_line
from tools.reproduce.figure4 import Figure4, figure4
from tools.reproduce.table1 import PSEUDO, PUBLISHED, Table1, table1
from tools.reproduce.table2 import STEPS, VARIANTS, Table2, table2
from tools.reproduce.table3 import LENGTHS, Table3, table3
from tools.reproduce.table_plan import TablePlan, chosen_networks, exported

SCHEMAS = {
    "evaluate.py": EvaluateConfig,
    "generate.py": GenerateConfig,
    "prepare.py": PrepareConfig,
    "train.py": TrainConfig,
}


@pytest.fixture
def proxies(tmp_path):
    for kind in ("sync", "image", "video", "expression"):
        name = f"{kind}/proxy_{kind}.safetensors"
        (touch(tmp_path / "proxies", name) / name).write_text(kind)
    return tmp_path / "proxies"


def plans(tmp_path, proxies):
    """Returns the steps of every table."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "ethd.safetensors").touch()
    ethd = tmp_path / "ethd.safetensors"
    real, synthetic = (chosen_networks(proxies, real_faces) for real_faces in (True, False))
    touch(tmp_path, "face.png", "talk.wav", "other.png", "without.safetensors")
    inputs = [tmp_path / name for name in ("face.png", "talk.wav", "other.png")]
    figure = Figure4(*inputs, ethd, tmp_path / "without.safetensors")
    videos = Table1(tmp_path / "videos", ethd, 128, 3, 50, {"hallo": (str(tmp_path), "python")})
    return {
        "1": table1(TablePlan(tmp_path / "t1", "mini", *real), videos),
        "2": table2(TablePlan(tmp_path / "t2", "synthetic"), Table2(steps=3)),
        "3": table3(TablePlan(tmp_path / "t3", "synthetic", *synthetic), Table3(ethd)),
        "figure4": figure4(TablePlan(tmp_path / "f4", ""), figure),
    }


def check(step):
    """Parses a command as its program does."""
    first, *keys = step.command
    if first == "evaluate.py" and any(key.startswith("table=") for key in keys):
        rules.check(compose("tables", TableConfig, keys))
    elif first == "train.py" and "task=export" in keys:
        compose("export", ExportConfig, keys)
    elif first in SCHEMAS:
        rules.check(compose(first.removesuffix(".py"), SCHEMAS[first], keys))
    elif keys[0] == "benchmark.run_system":
        compose("systems", RunSystemConfig, keys[1:])
    else:
        assert importlib.util.find_spec(keys[0])


@pytest.mark.slow
def test_every_command_is_valid_and_its_inputs_exist(tmp_path, proxies, monkeypatch):
    monkeypatch.chdir(ROOT)
    for steps in plans(tmp_path, proxies).values():
        assert len({step.name for step in steps}) == len(steps)
        written = []
        for step in steps:
            for path in step.reads:
                assert path.exists() or any(path == one or one in path.parents for one in written), step.name
                if path.suffix:
                    touch(path.parent, path.name)
                else:
                    path.mkdir(parents=True, exist_ok=True)
            written += [*step.writes, *(path.parent for path in step.writes)]
            if step.command[0] == "evaluate.py":
                for key in step.command:
                    if key.startswith(("generated=", "reference=", "results=")):
                        Path(key.partition("=")[2]).mkdir(parents=True, exist_ok=True)
            check(step)


def cells(steps):
    """Returns (system, mode, variant) of every evaluation."""
    keys = [dict(word.split("=", 1) for word in step.command if word.startswith("cell.")) for step in steps]
    return {(cell["cell.system"], cell["cell.mode"], cell.get("cell.variant", "full")) for cell in keys if cell}


def test_every_row_of_the_papers_tables_is_evaluated_or_listed_as_not_run(tmp_path, proxies):
    made = plans(tmp_path, proxies)
    for number in ("2", "3"):
        rows = {(row.system, row.mode, row.variant) for group in paper_table(number).groups for row in group.rows}
        assert cells(made[number]) == rows
    rows = {(row.system, row.mode) for group in paper_table("1").groups for row in group.rows}
    listed = next(step for step in made["1"] if step.name == "not_run").command
    (runs,) = (word for word in listed if word.startswith("runs="))
    assert set(PUBLISHED) <= {Path(run).name for run in runs.split(",")}
    ours = {(system, mode) for system, mode, _ in cells(made["1"])}
    assert ours == {
        ("emotivetalk", "A"), ("emotivetalk", "A+V"), ("ground_truth", "A+V"), ("hallo", "A"),
        *((name, "control") for name in PSEUDO),
    }  # fmt: skip
    assert rows - ours == {(name, mode) for name, mode in PUBLISHED.items() if name != "hallo"}
    for ablations, variants in (
        ("inference", {"full", "no_decouple", "wo_lip_inference", "wo_exp_inference"}),
        ("trained", set(VARIANTS)),
    ):
        steps = table2(TablePlan(tmp_path / ablations, "synthetic"), Table2(ablations=ablations))
        assert {variant for *_, variant in cells(steps)} == variants
    assert tuple(VARIANTS) == ("full", "wo_lip", "wo_exp", "no_decouple")
    assert LENGTHS == (120, 250, 750, 1500)
    # A slope needs three windows.
    drifting = [step.name for step in made["3"] if "drift=5" in step.command]
    assert drifting == ["evaluate_750_frames", "evaluate_1500_frames"]


def test_figure_4_has_both_readings(tmp_path, proxies):
    made = {step.name: step for step in plans(tmp_path, proxies)["figure4"]}
    held, moving, trained = (made[name].command for name in ("without_at_inference", "with_dicte", "trained_without"))
    assert {word for word in held if word not in moving} == {
        f"emotion.video={tmp_path / 'f4' / 'still.mp4'}",
        "emotion.extend=hold",
        f"output={tmp_path / 'f4' / 'clips' / 'without_at_inference.mp4'}",
    }
    assert f"ethd={tmp_path / 'without.safetensors'}" in trained
    assert {"figure4_inference", "figure4_trained"} < made.keys()
    first = figure4(
        TablePlan(tmp_path / "f4", ""), Figure4(*[tmp_path / "face.png"] * 3, tmp_path / "ethd.safetensors")
    )
    assert [step.name for step in first if step.name.startswith("figure4")] == ["figure4_inference"]


def test_table_2_trains_at_most_as_long_as_the_experiments(tmp_path):
    for kind, steps in STEPS.items():
        stage = "proxy" if kind in ("sync", "image", "video", "expression") else kind
        name = kind if stage == "proxy" else "tiny"
        text = (ROOT / "configs" / "experiment" / stage / f"{name}.yaml").read_text()
        assert steps <= yaml.safe_load(text)["trainer"]["max_steps"]
    seeds = [table2(TablePlan(tmp_path, "synthetic"), Table2(seed=seed)) for seed in (0, 1)]
    names = [{step.name: step.typed for step in steps} for steps in seeds]
    shared = {name for name in names[0] if names[1].get(name) == names[0][name]}
    assert {"data", "set", "train_sync", "train_image", "train_expression"} <= shared
    assert not any(name.startswith(("evaluate", "clips", "export")) for name in shared)


def test_invalid_options_are_refused(tmp_path, proxies, monkeypatch):
    monkeypatch.setattr(command_line, "locate", lambda name: None)
    (proxies / "image" / "proxy_image.safetensors").unlink()
    text = tmp_path / "ethd.safetensors"
    text.write_text("no network")
    for options, message in (
        (["table3", f"ethd={tmp_path}"], "has no export/ethd.safetensors; run python train.py task=export"),
        (["table3", f"ethd={tmp_path / 'none'}"], f"ethd={tmp_path / 'none'}: no such run; "),
        (["table3", f"ethd={text}"], f"ethd={text}: is not an export ("),
        (["table3"], "no value for ethd"),
        (["figure4", f"ethd={text}"], "no value for "),
        (["table5"], "table5: expected one of table1, table2, table3, figure4"),
        (["table1", f"videos={tmp_path / 'none'}"], "no such folder"),
        (["table1", f"videos={tmp_path}", "installed=halo:x:y"], "installed=halo:x:y: halo: unknown system"),
        (["table1", f"videos={tmp_path}", f"proxies={proxies}"], "has 0 files proxy_image"),
        (["table1", "--videos", str(tmp_path)], f"--videos {tmp_path}: is written videos={tmp_path} here"),
    ):
        typed = [*options, f"output={tmp_path / 'out'}"] if len(options) < 3 else options
        refuses(UserError, re.escape(message), command_line.main, typed)
    with pytest.raises(UserError):
        exported(tmp_path / "nowhere")
