"""Old names of keys, values, experiments and Make targets are read, with one line that gives the new name."""

import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from configs.command_line import compose
from configs.evaluation import EvaluateConfig
from configs.experiments import require_experiment
from configs.options import path, read_options
from configs.renamed import KEYS, VALUES, current_names
from configs.training import TrainConfig
from metrics.networks.proxy import find_proxies
from tests.helpers import ROOT
from tests.helpers.train_config import train_config
from training.resume import check_same_config, run_folder, store_config

KIND = {"train": TrainConfig, "evaluate": EvaluateConfig}


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("train", "experiment=standin/sync", "experiment=proxy/sync"),
        ("train", "model=standin", "model=proxy"),
        ("train", "stage=standin", "stage=proxy"),
        ("train", "videos.fid.network=standin", "videos.fid.network=proxy"),
        ("evaluate", "fid.network=standin", "fid.network=proxy"),
    ],
)
def test_old_values_are_read_with_one_line(command, old, new, capsys):
    more = {
        "train": ["data.root=a", *([] if "experiment" in old else ["experiment=proxy/image"])],
        "evaluate": ["generated=a", "reference=b", "output=c"],
    }[command]
    typed = [compose(command, KIND[command], [*more, one]) for one in (new, old)]
    assert typed[0] == typed[1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"note: {old} is now {new}; the next version reads the new name only"


def test_old_keys_of_a_script_are_read(capsys):
    assert read_options("", ["standins=runs"], {"proxies": path}) == read_options(
        "", ["proxies=runs"], {"proxies": path}
    )
    assert capsys.readouterr().err.count("standins=runs is now proxies=runs") == 1


def test_every_experiment_of_a_sweep_is_renamed_and_other_words_are_not():
    lines = []
    words = ["experiment=standin/sync,standin/image", "+fid.network=standin", "output=standin", "--multirun"]
    assert current_names(words, lines.append) == [
        "experiment=proxy/sync,proxy/image", "+fid.network=proxy", "output=standin", "--multirun",
    ]  # fmt: skip
    assert len(lines) == 2
    require_experiment(["experiment=standin/sync"])  # exits with 2 where there is no such experiment


def test_new_names_are_there():
    experiments = ROOT / "configs" / "experiment"
    assert all((experiments / f"{new}.yaml").is_file() for new in VALUES["experiment"].values())
    assert not [old for old in VALUES["experiment"] if (experiments / f"{old}.yaml").exists()]
    assert not {*KEYS} & {*KEYS.values()}


def test_old_values_in_a_yaml_file_of_a_lab_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("configs.lab._folders", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "experiment").mkdir()
    text = (ROOT / "configs" / "experiment" / "proxy" / "image.yaml").read_text()
    (tmp_path / "experiment" / "mine.yaml").write_text(text.replace("stage: proxy", "stage: standin"))
    config = compose("train", TrainConfig, [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", "data.root=a"])
    assert config.stage == "proxy"
    assert capsys.readouterr().err.startswith("note: stage=standin is now proxy; ")


def test_a_run_of_an_earlier_version_is_found_and_goes_on(tmp_path):
    config = train_config("experiment=proxy/image", "data.root=a", f"output={tmp_path}", "run_id=a")
    assert run_folder(config) == tmp_path / "proxy" / "a"
    earlier = tmp_path / "standin" / "a"
    store_config(config, earlier)
    assert run_folder(config) == earlier
    stored = OmegaConf.load(earlier / "config.yaml")
    stored.stage, stored.name = "standin", "standin-image"
    OmegaConf.save(stored, earlier / "config.yaml")
    check_same_config(config, earlier / "config.yaml")
    (tmp_path / "proxy" / "a").mkdir(parents=True)
    assert run_folder(config) == tmp_path / "proxy" / "a"


def test_files_of_earlier_runs_are_found(tmp_path):
    for name in ("a/standin_image.safetensors", "b/proxy_image.safetensors", "b/proxy_video.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in find_proxies(tmp_path, "image")] == [
        "standin_image.safetensors", "proxy_image.safetensors",
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_old_make_targets_and_variables_name_the_new_ones():
    def make(*words):
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    assert "make prove is now make nightly" in make("prove")
    assert "python -m tools.nightly" in make("prove")
    printed = make("table2-synthetic", "STANDINS=runs/x")
    assert "STANDINS=DIR is now PROXIES=DIR" in printed
    assert 'proxies="runs/x"' in printed
