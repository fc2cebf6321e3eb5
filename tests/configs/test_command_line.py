"""Paths and texts arrive as typed; a wrong command line gives one line and exit status 2."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs.command_line import _of_submitit, _sorted
from configs.experiments import experiments, require_experiment
from configs.lab import lab_folders
from tests.helpers import ROOT

MINE = """# @package _global_
# The lab's own run.
defaults: [override /data: synthetic, override /model: vaid]
stage: vaid
name: mine
data: {fields: [audio, lip, expression, portraits]}
trainer: {max_steps: 3}
"""

SHOW_OUTPUT = "-c " + shlex.quote("""
import sys
from configs.command_line import run
from configs.preparation import PrepareConfig

def show(config):
    sys.stdout.buffer.write(config.output.encode("utf-8", "surrogateescape"))
    return 5

run("prepare", PrepareConfig, show)
""")


def prepare(arguments: str, script: str = "prepare.py") -> subprocess.CompletedProcess:
    command = f"{shlex.quote(sys.executable)} {script} {arguments}"
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, errors="surrogateescape")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab folder. Its changes to this process are undone afterwards."""
    monkeypatch.setattr("configs.lab._folders", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for file, text in (
        ("experiment/mine.yaml", MINE),
        ("experiment/wrong.yaml", MINE.replace("max_steps", "max_stps")),
        ("dataset/ours.yaml", "name: folder"),
        ("of_the_lab.py", "WORD = 'found'"),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.fixture
def refusal(lab, monkeypatch, capsys):
    """Runs a command in this process and returns the one line of its error."""

    def refused(command: str) -> str:
        script, *typed = shlex.split(command.replace("LAB", str(lab)))
        monkeypatch.setattr(sys, "argv", [script, *typed])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert left.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return refused


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "my videos/face (1).mp4",
        "Müller/寒い 日.mp4",
        "M003#happy#level_1",
        "don't be sad!",
        'a "quoted" name',
        "back\\slash\\",
        "comma, colon: equals=and {braces} [brackets]",
        "dollar $HOME ${x} ${oc.env:HOME}",
        "-dash *star* ?mark? %percent% &and; |pipe|",
        "tilde ~ inside",
        "true",
        "1e-4",
    ],
)
def test_paths_are_used_as_typed(path):
    result = prepare(f"task=check output={shlex.quote(path)}", SHOW_OUTPUT)
    assert (result.stdout, result.returncode) == (path, 5), result.stderr


@pytest.mark.slow
def test_a_leading_tilde_is_the_home_folder():
    assert prepare("task=check output='~/x y'", SHOW_OUTPUT).stdout == str(Path.home() / "x y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("datset=mead", "no key 'datset'; did you mean dataset"),
        (
            "dataset=meat",
            "dataset=meat: there is no such option; did you mean mead? There are celebv_hq, folder, hdtf, manifest",
        ),
        ("workers=many", "workers=many"),
        ("face.scale=wide", "face.scale"),
        ("audio.required=maybe", "audio.required"),
        ("encoders/audio=wav", "encoders/audio=wav: there is no such option; there are mel, wav2vec2"),
        ("preset=", "preset"),
        ("task=perpare output=x", "task=perpare: expected one of prepare, all, scan, choose, encode, merge, check"),
        ("dataset=mead", "output is missing"),
        ("output=x", "dataset is missing"),
        ("dataset=mead output=x", "source is missing"),
        ("dataset=mead source=. output=x dataset.known=[data]", "dataset.known: task=prepare compares nobody"),
        ("dataset=mead source=. output=x networks=[resnet]", "networks=resnet: expected one of arcface, syncnet"),
        ("dataset=folder output=x source=configs face.scale=nan", "face.scale=nan"),
        ("dataset=folder output=x source=configs clip_timeout=nan", "clip_timeout=nan"),
        ("dataset=mead output=x source=/does/not/exist", "/does/not/exist: does not exist"),
        ("dataset=mead output=x source=LICENSE", "source=LICENSE: is a file"),
        ("dataset=folder output=x source=configs part=0/4", "part=0/4: expected i/n"),
        ("dataset=folder output=x source=configs part=5/4", "part=5/4: expected i/n"),
        (
            "dataset=folder output=x source=configs max_seconds=60",
            "max_seconds=60.0: expected more than 0 and at most 20",
        ),
        ("dataset=folder output=x source=configs frame_size=100", "frame_size=100: expected a multiple of 8"),
        ("dataset=folder output=x source=configs max_rejected=2", "max_rejected=2.0"),
        ("dataset=hdtf preset=tiny output=x source=configs dataset.annotations=a", "encoders/landmarks=mediapipe"),
        ("dataset=synthetic preset=tiny output=x source=configs", "leave source out"),
    ],
)
def test_wrong_arguments_give_one_line(arguments, message, refusal):
    assert message in refusal(f"prepare.py {arguments}")


TRAIN = "train.py experiment=vaid/tiny data.root=a"
LAB = "train.py data.root=a --config-dir LAB"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{TRAIN} data.batch_size=0", "data.batch_size=0: expected a number above 0"),
        (f"{TRAIN} data.name=hdft", "data.name=hdft: there is no such dataset; did you mean hdtf"),
        (f"{TRAIN} data.fields=[lips]", "data.fields=lips: expected one of audio, lip"),
        (f"{TRAIN} data.workers=-1", "data.workers=-1: expected 0 or more"),
        (f"{TRAIN} data=null", "data=null: expected one of folder, hdtf, manifest, mead"),
        (f"{TRAIN} stage=ethd", "stage=ethd: trains model=ethd, found a VAIDConfig"),
        (f"{TRAIN} +trainer.foo=1", "there is no key 'trainer.foo'; did you mean trainer"),
        (f"{TRAIN} ++trainer.max_step=1", "there is no key 'trainer.max_step'; did you mean trainer.max_steps"),
        (f"{TRAIN} +model.lip.wdth=1", "there is no key 'model.lip.wdth'; did you mean model.lip.width"),
        (f"{TRAIN} +foo=1", "there is no key 'foo'"),
        (f"{TRAIN} model.snr_gamma=1", "there is no key 'model.snr_gamma' in this experiment; --help lists"),
        (f"{TRAIN} model.loss=3", "there is no key 'model.loss' in this experiment"),
        ("train.py experiment=ethd/tiny vaid=v data.root=a model.loss=3", "model.loss=3: expected one of x0, v"),
        (f"{TRAIN} ~trainer.max_steps", "~trainer.max_steps"),
        (f"{TRAIN} ~data", "no value for data.name"),
        (f"{TRAIN} trainer.max_steps=abc", "error: trainer.max_steps=abc: expected a whole number"),
        (f"{TRAIN} model.lr=abc", "error: model.lr=abc: expected a number"),
        (f"{TRAIN} init=null", "error: init=null: expected a value; it cannot be null"),
        (f"{TRAIN} init=", "error: init=: expected none, svd, or a run, checkpoint or export"),
        ("generate.py paste_back=maybe ethd=x", "error: paste_back=maybe: expected true or false"),
        ("train.py task=export experiment=vaid/tiny", "this command has no key 'experiment'"),
        (f"{TRAIN} +encoders.foo=mel", "encoders=foo: expected one of audio"),
        ("train.py --experiment vaid/tiny", "--experiment vaid/tiny: is written experiment=vaid/tiny here"),
        ("train.py --experiment=vaid/tiny", "--experiment=vaid/tiny: is written experiment=vaid/tiny here"),
        ("train.py experiment vaid/tiny", "experiment vaid/tiny: is written experiment=vaid/tiny here"),
        (f"{TRAIN} -x 3", "-x: expected key=value"),
        ("train.py task=exprt run=x", "task=exprt: expected one of export, rehearse; leave it out to train"),
        (f"{TRAIN} task=nope", "task=nope: expected one of export, rehearse"),
        (f"{TRAIN} task=", "task=: expected one of export, rehearse"),
        (f"{TRAIN} trainer=ddp task=rehearse", "trainer.devices=auto: no GPU is visible here to count; name"),
        (f"{TRAIN} -m model.lr=1,2 task=rehearse", "task=rehearse: rehearse one run of a sweep, without -m"),
        ("train.py tsk=export run=x", "there is no key 'tsk'; did you mean task? --help shows examples"),
        ("train.py --task export", "--task export: is written task=export here"),
        (f"{LAB} experiment=wrong", "experiment/wrong.yaml: there is no key 'max_stps' in TrainerConfig; did you mean"),
        (f"{LAB} experiment=mine data.root=", "data.root is missing"),
        ("train.py data.root= hydra.searchpath=[file://LAB] experiment=mine", "data.root is missing"),
        (
            "prepare.py dataset=our --config-dir=LAB output=x source=.",
            "did you mean ours? There are celebv_hq, folder, hdtf",
        ),
        (f"{TRAIN} --config-dir nowhere", "nowhere: no such folder"),
        ("generate.py --portrait face.png", "--portrait face.png: is written portrait=face.png here"),
        ("generate.py --paste-back", "--paste-back: is written paste_back=VALUE here"),
        ("generate.py +portrat=a", "there is no key 'portrat'; did you mean portrait"),
        ("evaluate.py --table 1", "--table 1: is written table=1 here"),
        ("evaluate.py table=9", "table=9: expected one of 1, 2, 3, 4, all"),
        ("app.py ethd=x port=0", "port=0: expected a number from 1 to 65535"),
    ],
)
def test_wrong_arguments_of_every_command_give_one_line(command, message, refusal):
    assert message in refusal(command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["prepare.py --dataset mead", "train.py experiment=vaid/tiny data.root=a data.seed=-1"]
)
def test_scripts_started_in_another_folder_give_one_line(command, tmp_path):
    script, *typed = shlex.split(command)
    result = subprocess.run([sys.executable, ROOT / script, *typed], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


def test_experiments_and_modules_of_a_lab_folder_are_found(lab, monkeypatch):
    require_experiment(["experiment=mine", "--config-dir", str(lab)])
    assert lab_folders() == [lab]
    assert experiments()["mine"] == "The lab's own run."
    assert importlib.import_module("of_the_lab").WORD == "found"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "option"),
    [("hydra/sweeper=optuna", "hydra/sweeper=optuna"), ("hydra/launcher=slurm", "hydra/launcher=submitit_slurm")],
)
def test_a_plugin_that_is_not_installed_is_named(typed, option):
    code = "import sys, runpy, types; sys.modules['hydra_plugins'] = types.ModuleType('hydra_plugins'); "
    code += "sys.modules['hydra_plugins'].__path__ = []; runpy.run_path('train.py', run_name='__main__')"
    command = [sys.executable, "-c", code, "-m", typed, "experiment=vaid/tiny", "data.root=a"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {option}: needs a plugin of Hydra that is not installed; pip install '.[sweep]'\n"


def test_hydras_flags_may_be_anywhere():
    keys, flags = _sorted(["-m", "seed=0,1", "--config-dir", "LAB", "--info", "plugins", "name=x", "--cfg=job"])
    assert (keys, flags) == (["seed=0,1", "name=x"], ["-m", "--config-dir", "LAB", "--info", "plugins", "--cfg=job"])


def test_errors_of_sbatch_are_user_errors():
    utils = pytest.importorskip("submitit.core.utils", reason="needs pip install '.[sweep]'")
    assert _of_submitit(utils.FailedJobError("sbatch: error: invalid partition"))
    assert not _of_submitit(RuntimeError("a bug"))


@pytest.mark.slow
def test_help_shows_example_commands_and_groups():
    result = prepare("--help").stdout
    assert "python prepare.py dataset=folder preset=small source=my_videos output=data/mine" in result
    for group in ("dataset", "preset", "encoders/landmarks", "encoders/audio", "encoders/motion", "encoders/codec"):
        for option in (ROOT / "configs" / group).glob("*.yaml"):
            assert re.search(rf"{group} .*\b{option.stem}\b", result), f"{group}={option.stem} is not in --help"
    assert "max_rejected" in result
