"""generate.py and the export in a shell: odd paths and errors."""

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.command_line import compose
from configs.errors import ConfigError
from configs.generation import GenerateConfig
from configs.rules import check
from media import FrameReader
from tests.helpers import ROOT, warm
from tests.helpers.inputs import tone
from tests.helpers.refusals import refuses
from tests.helpers.sound import write_wav

AWKWARD = "Müller's (1) #raw! 寒い 100%"


def command(script, *typed) -> list[str]:
    return [sys.executable, f"{script}.py", *map(str, typed)]


def run(script, *typed) -> subprocess.CompletedProcess:
    return subprocess.run(command(script, *typed), cwd=ROOT, capture_output=True, text=True, timeout=250)


@pytest.fixture
def main(monkeypatch, capsys, tmp_path):
    """Runs a script's main part in this process, where torch is already loaded; returns exit status and output."""
    monkeypatch.chdir(tmp_path)

    def call(script, *typed):
        monkeypatch.setattr("sys.argv", [f"{script}.py", *map(str, typed)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out + printed.err

    return call


@pytest.fixture(scope="module")
def odd(runs, files, tmp_path_factory):
    """Inputs and a run in a folder with special characters in its name."""
    folder = tmp_path_factory.mktemp("odd") / AWKWARD
    shutil.copytree(files, folder)
    shutil.copytree(runs / "ethd", folder / "run")
    shutil.rmtree(folder / "run" / "export")
    return folder


@pytest.mark.slow
def test_odd_paths_can_be_exported_and_generated(odd, main):
    typed = (f"portrait={odd / 'face.png'}", f"speech={odd / 'voice.wav'}", f"output={odd / 'new' / 'out, a.mp4'}")
    status, printed = main("generate", *typed, f"ethd={odd / 'run'}")
    assert status == 1
    assert f"was not exported yet; run: python train.py task=export run={odd / 'run'}" in printed
    assert len(printed.strip().splitlines()) == 1
    status, printed = main("train", "task=export", f"run={odd / 'run'}")
    assert status == 0
    assert str(odd / "run" / "export" / "ethd.safetensors") in printed

    printed = run("generate", *typed, f"ethd={odd / 'run'}", "steps=1", "device=cpu")
    assert printed.returncode == 0, printed.stderr
    assert "Warning" not in printed.stderr
    assert len(FrameReader(odd / "new" / "out, a.mp4")) == 13
    assert (odd / "new" / "out, a.json").exists()


@pytest.mark.slow
def test_without_a_word_a_synthetic_speaker_talks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = tmp_path / "here"
    here.mkdir()
    whole = [sys.executable, str(ROOT / "generate.py")]

    def call(*typed):
        return subprocess.run([*whole, *typed], cwd=here, capture_output=True, text=True, timeout=280)

    made = call()
    assert made.returncode == 0, made.stderr
    assert sorted(file.name for file in here.iterdir()) == ["talking.json", "talking.mp4"]
    assert "talking.mp4 shows Cyrus, a synthetic speaker whom the small model never saw" in made.stderr
    assert "Next: python generate.py emotion.label=angry output=angry.mp4" in made.stderr
    frames = FrameReader(here / "talking.mp4")
    assert len(frames) == 75
    record = json.loads((here / "talking.json").read_text())
    assert record["settings"]["emotion"] == {"label": "happy", "level": 3, "strength": 1.0}
    assert all(Path(entry["file"]).exists() for entry in record["inputs"].values())
    (here / "talking.json").unlink()
    (here / "talking.mp4").write_text("mine")
    refused = call()
    assert refused.returncode == 2
    assert "output=talking.mp4: talking.mp4 was not written by this program and is not replaced" in refused.stderr
    assert (here / "talking.mp4").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_leaves_no_partial_file(odd, runs, tmp_path):
    write_wav(tmp_path / "long.wav", np.tile(tone(1), 60), 16_000)
    typed = (f"portrait={odd / 'face.png'}", f"speech={tmp_path / 'long.wav'}", f"output={tmp_path / 'out.mp4'}")
    started = command("generate", *typed, f"ethd={runs / 'ethd'}", "device=cpu")
    process = warm.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert "loaded" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert "Stopped" in printed
    assert [file.name for file in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "typed", "status", "words"),
    [
        ("generate", ["portrait=a", "spech=v", "output=o.mp4", "ethd=run"], 2, "no key 'spech'; did you mean speech"),
        ("generate", ["portrait=a", "speech=v", "output=o.mp4"], 2, "no value for ethd: add ethd=RUN"),
        ("generate", ["batch=a.csv", "output=o"], 2, "no value for ethd: add ethd=RUN"),
        ("generate", ["portrait=a", "speech=v", "output=o.mov", "ethd=run"], 2, "expected a file that ends in .mp4"),
        ("generate", ["portrait=a", "speech=v", "output=o.mp4", "ethd=nowhere"], 1, "nowhere: no such run"),
        ("train", ["task=export"], 2, "no value for run"),
        ("train", ["task=export", "run=nowhere"], 1, "nowhere: no such run or checkpoint"),
    ],
)
def test_an_error_is_one_line(main, script, typed, status, words):
    found, printed = main(script, *typed)
    assert found == status
    assert words in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["window=8", "overlap=8"], "overlap=8: expected at least 0 and less than window=8"),
        (["part=1/2"], "is a share of a batch"),
        (["batch=none.csv"], "batch=none.csv: no such file"),
        (["portrait=null"], "portrait is missing"),
        (["output="], "output is missing"),
        (["face.scale=0.5"], "face.scale=0.5: expected 1 or more"),
    ],
)
def test_an_invalid_configuration_names_its_key(typed, words):
    base = {"portrait": "a.png", "speech": "v.wav", "output": "o.mp4", "ethd": "run"}
    chosen = {argument.partition("=")[0] for argument in typed}
    config = compose("generate", GenerateConfig, [f"{k}={v}" for k, v in base.items() if k not in chosen] + typed)
    refuses(ConfigError, re.escape(words), check, config)


def test_the_help_of_export_shows_commands(main):
    status, printed = main("train", "task=export", "--help")
    assert status == 0
    assert "python train.py" in printed
