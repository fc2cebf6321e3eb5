"""The plan of the demonstration with trainings of a few steps: every command works, and the page is built."""

import contextlib
import importlib.util
import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.command_line import compose
from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.generation import ExportConfig, GenerateConfig
from configs.preparation import PrepareConfig
from configs.sweeps import TaskResult
from configs.training import TrainConfig
from generation.small import SMALL_ENCODERS
from tests.helpers.refusals import refuses
from tools.demo.__main__ import main, write_plan
from tools.demo.demo_plan import SCRATCH, SYNTHETIC, Lengths, kept_plan, max_steps, real_plan, synthetic_plan
from tools.demo.people import KeptVideo, People
from tools.pipeline.step import Step

SCRIPTS = {
    "prepare.py": ("prepare", PrepareConfig),
    "train.py": ("train", TrainConfig),
    "generate.py": ("generate", GenerateConfig),
    "evaluate.py": ("evaluate", EvaluateConfig),
}
SMALL_UNET = "model.unet={channels:[32,32],heads:[1,1],attention:[false,true],layers:1,token_width:32,added_width:32}"
SMALL_VAID = (
    "model.lip={width:16,depth:1,latents:2,head_width:8}",
    "model.expression={width:16,depth:1,head_width:8,identity_widths:[8],identity_size:16}",
    "model.sampling_steps=2",
)
ALONE = ("trainer.devices='1'", "trainer.strategy=auto")
SHORT = ("trainer.progress_bar=false", "trainer.validation_clips=1")
FEW = ("dataset.identities=4", "dataset.clips_per_identity=8", "dataset.seconds=1.4", "dataset.size=64")
TRIAL = Lengths(
    prepare=(*FEW, "workers=1"),
    vaid=("trainer.max_steps=2", "data.batch_size=2", *SMALL_VAID, *SHORT),
    emotion=("trainer.max_steps=2", *SHORT),
    ethd=("trainer.max_steps=1", SMALL_UNET, "model.expression_steps=1", *ALONE, *SHORT),
    image=("trainer.max_steps=1", "data.workers=0", "data.batch_size=1", *SHORT),
    generate=("steps=1", "window=32"),
    measure=("frames=8", "steps=1"),
    clips=32,
)  # fmt: skip


def run(step: Step) -> int:
    """Runs a step in this process, so that torch is imported only once."""
    first, *keys = step.command
    with contextlib.ExitStack() as stack:
        if step.stdout:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(step.stdout.open("w"))))
        if first in SCRIPTS:
            name, config = SCRIPTS[first]
            if "task=export" in keys:
                return importlib.import_module("train").export(compose("export", ExportConfig, keys))
            ended = getattr(importlib.import_module(name), name)(compose(name, config, keys))
            return ended.status if isinstance(ended, TaskResult) else ended
        assert first == "-m"
        stack.enter_context(torch.set_grad_enabled(True))  # a module may switch it off
        stack.callback(setattr, sys, "argv", sys.argv)
        sys.argv = keys
        try:
            runpy.run_module(keys[0], run_name="__main__", alter_sys=False)
        except SystemExit as ended:
            return ended.code or 0
        return 0


# The small model of the tree, and one step of training more.
CONTINUED = replace(
    TRIAL,
    prepare=(*TRIAL.prepare, *SMALL_ENCODERS),
    vaid=("trainer.max_steps=1", "data.batch_size=2", "model.sampling_steps=2", *SHORT),
    ethd=("trainer.max_steps=1", "data.batch_size=1", "model.expression_steps=1", *ALONE, *SHORT),
    experiment=SYNTHETIC.experiment,
    start=SYNTHETIC.start,
)


def people(count: int, clips: int = 1) -> People:
    """People with as many clips each."""
    return People.of([KeptVideo(f"{number}.mp4", f"person {number}", clips) for number in range(count)])


def check_commands(steps: list[Step]) -> None:
    """Every script accepts its keys, and every module exists."""
    for step in steps:
        first, *keys = step.command
        if first in SCRIPTS:
            name, config = ("export", ExportConfig) if "task=export" in keys else SCRIPTS[first]
            assert compose(name, config, keys), step.typed
        else:
            assert (first, importlib.util.find_spec(keys[0]) is None) == ("-m", False), step.typed


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [SYNTHETIC, SCRATCH], ids=["continued", "from scratch"])
def test_every_command_of_the_plan_is_valid(tmp_path, lengths):
    check_commands(synthetic_plan(tmp_path, lengths))


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lengths", [CONTINUED, TRIAL], ids=["continued", "from scratch"])
def test_every_command_of_the_plan_works_and_the_page_is_built(tmp_path, monkeypatch, lengths):
    monkeypatch.chdir(Path(__file__).parents[3])
    folder = tmp_path / "demo"
    steps = synthetic_plan(folder, lengths)
    write_plan(steps, folder)
    for step in steps:
        step.digest()  # raises if an input is missing
        assert run(step) in step.accepted, step.typed
        assert all(path.exists() for path in step.products), step.typed
        if step.progress:
            assert step.progress.done() == step.progress.total or step.name in ("vaid", "ethd", "emotion", "image")
    page = (folder / "index.html").read_text()
    asked = json.loads((folder / "cases" / "cases.json").read_text())["asked"]
    assert len(asked) == 11
    assert not any(one["seen"] for one in asked)
    assert page.count("<video") == 1 + 6 * 2 + 2 + 2 + 2
    assert ("before this training" in page) == (lengths.start is not None)
    assert "FID proxy" in page
    assert "not computed" in page


def test_trainings_are_shorter_than_their_experiments_and_their_titles_tell(tmp_path):
    for lengths in (SYNTHETIC, SCRATCH):
        experiments = {"vaid": "vaid/tiny", "ethd": lengths.experiment, "emotion": "emotion/tiny"}
        for stage, experiment in experiments.items():
            assert max_steps(experiment, getattr(lengths, stage)) < max_steps(experiment)
        titles = {step.name: step.title for step in synthetic_plan(tmp_path, lengths)}
        assert f"at most {max_steps('vaid/tiny', lengths.vaid)} steps" in titles["vaid"]
        assert f"takes {max_steps(lengths.experiment)}" in titles["ethd"]


def test_only_rendering_preparing_and_stage_2_need_all_cores(tmp_path):
    plans = [synthetic_plan(tmp_path), synthetic_plan(tmp_path, SCRATCH), real_plan(tmp_path, tmp_path, people(12))]
    for steps in plans:
        alone = {step.name.rstrip("-24") for step in steps if step.cores is None}
        assert alone == {"prepare", "ethd"} | {step.name for step in steps if step.name == "kept"}
        assert {step.cores for step in steps} == {None, 1}


@pytest.mark.parametrize("lengths", [SYNTHETIC, SCRATCH], ids=["continued", "from scratch"])
def test_trainings_end_by_steps_so_that_a_busy_machine_is_slower_but_not_worse(tmp_path, lengths):
    trainings = [step.command for step in synthetic_plan(tmp_path, lengths) if step.command[0] == "train.py"]
    configs = [compose("train", TrainConfig, keys[1:]) for keys in trainings if "task=export" not in keys]
    assert len(configs) == 4
    assert [config.trainer.max_minutes for config in configs] == [None] * 4


def test_the_demonstration_starts_from_the_small_model_unless_told_otherwise(tmp_path):
    names = {step.name: step for step in synthetic_plan(tmp_path)}
    small = "generation/small.safetensors"
    assert small in names["score_before"].command
    assert all(f"init={small}" in names[stage].command for stage in ("vaid", "ethd"))
    assert not any(small in step.typed for step in synthetic_plan(tmp_path, SCRATCH))
    refuses(ConfigError, "from_scratch=yes: networks of real people", main, ["from_scratch=yes", f"videos={tmp_path}"])
    refuses(ConfigError, "speaker=: names the people of real videos", main, ["speaker=(.+)"])


def test_steps_have_unique_names_and_read_earlier_outputs(tmp_path):
    videos, folder = tmp_path / "my videos", tmp_path / "demo"
    for steps in (synthetic_plan(folder), synthetic_plan(folder, SCRATCH), real_plan(folder, videos, people(12))):
        assert len({step.name for step in steps}) == len(steps)
        written = [folder / "plan.json"]
        for step in steps:
            for path in step.reads:
                known = path in (videos, SYNTHETIC.start) or any(made in (path, *path.parents) for made in written)
                assert known, (step.name, path)
            written += step.products


@pytest.mark.slow
@pytest.mark.parametrize(("count", "parts"), [(3, [""]), (5, ["", "-2"]), (8, ["", "-2", "-4"])])
def test_every_command_of_the_plan_of_real_people_is_valid(tmp_path, count, parts):
    folder, videos = tmp_path / "demo", tmp_path / "my videos"
    steps = real_plan(folder, videos, people(count), "([a-z]+)")
    first = kept_plan(folder, videos, "([a-z]+)")
    assert steps[: len(first)] == first  # they run before the others are known
    check_commands(steps)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert [name.removeprefix("ethd") for name in names if name.startswith("ethd")] == parts
    assert [name for name in names if "unseen" in name] == [f"score_unseen{part}" for part in parts if count > 3]
    found = [compose("train", TrainConfig, step.command[1:]).trainer for step in steps if step.name.startswith("ethd")]
    assert len({trainer.max_steps for trainer in found}) == 1
    assert {trainer.max_minutes for trainer in found} == {None}


@pytest.mark.parametrize(("clips", "devices"), [(1, "1"), (2, "2")])
def test_a_training_on_one_clip_has_one_rank(tmp_path, clips, devices):
    steps = {step.name: step for step in real_plan(tmp_path / "demo", tmp_path, people(1, clips))}
    assert compose("train", TrainConfig, steps["ethd"].command[1:]).trainer.devices == devices


def test_a_missing_folder_is_refused_before_any_step(tmp_path):
    before = os.getcwd()
    with pytest.raises(ConfigError, match="nothing: no such folder"):
        main([f"videos={tmp_path / 'nothing'}"])
    assert os.getcwd() == before
