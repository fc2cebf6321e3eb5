"""generate.py and the export as people run them: through the shell, with odd paths, and with what they get wrong."""

import re
import runpy
import shutil
import signal
import subprocess
import sys

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
    """Runs a script's main part in this process, where torch is loaded already; its status and all it says."""
    monkeypatch.chdir(tmp_path)

    def call(script, *typed):
        monkeypatch.setattr("sys.argv", [f"{script}.py", *map(str, typed)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
        result = capsys.readouterr()
        return left.value.code or 0, result.out + result.err

    return call


@pytest.fixture(scope="module")
def odd(runs, files, tmp_path_factory):
    """Everything under a name full of special characters."""
    folder = tmp_path_factory.mktemp("odd") / AWKWARD
    shutil.copytree(files, folder)
    shutil.copytree(runs / "ethd", folder / "run")
    shutil.rmtree(folder / "run" / "export")
    return folder


@pytest.mark.slow
def test_export_then_a_video_despite_odd_names(odd, main):
    typed = (f"portrait={odd / 'face.png'}", f"speech={odd / 'voice.wav'}", f"output={odd / 'new' / 'out, a.mp4'}")
    status, result = main("generate", *typed, f"ethd={odd / 'run'}")
    assert status == 1
    assert f"was not exported yet; run: python train.py task=export run={odd / 'run'}" in result
    assert len(result.strip().splitlines()) == 1
    status, result = main("train", "task=export", f"run={odd / 'run'}")
    assert status == 0
    assert str(odd / "run" / "export" / "ethd.safetensors") in result

    result = run("generate", *typed, f"ethd={odd / 'run'}", "steps=1", "device=cpu")
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    assert len(FrameReader(odd / "new" / "out, a.mp4")) == 13
    assert (odd / "new" / "out, a.json").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_made(odd, runs, tmp_path):
    write_wav(tmp_path / "long.wav", np.tile(tone(1), 60), 16_000)
    typed = (f"portrait={odd / 'face.png'}", f"speech={tmp_path / 'long.wav'}", f"output={tmp_path / 'out.mp4'}")
    started = command("generate", *typed, f"ethd={runs / 'ethd'}", "device=cpu")
    process = warm.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert "loaded" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, result = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, result
    assert "Traceback" not in result
    assert "Stopped" in result
    assert [file.name for file in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "typed", "status", "words"),
    [
        ("generate", ["portrait=a", "spech=v", "output=o.mp4", "ethd=run"], 2, "no key 'spech'; did you mean speech"),
        ("generate", ["portrait=a", "speech=v", "output=o.mp4"], 2, "no value for ethd"),
        ("generate", ["portrait=a", "speech=v", "output=o.mov", "ethd=run"], 2, "videos are written as .mp4"),
        ("generate", ["portrait=a", "speech=v", "output=o.mp4", "ethd=nowhere"], 1, "nowhere: no such run"),
        ("train", ["task=export"], 2, "no value for run"),
        ("train", ["task=export", "run=nowhere"], 1, "nowhere: no such run or checkpoint"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(main, script, typed, status, words):
    found, result = main(script, *typed)
    assert found == status
    assert words in result
    assert len(result.strip().splitlines()) == 1


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
def test_a_wrong_configuration_names_its_key(typed, words):
    base = {"portrait": "a.png", "speech": "v.wav", "output": "o.mp4", "ethd": "run"}
    chosen = {argument.partition("=")[0] for argument in typed}
    config = compose("generate", GenerateConfig, [f"{k}={v}" for k, v in base.items() if k not in chosen] + typed)
    refuses(ConfigError, re.escape(words), check, config)


def test_help_of_exports_names_the_commonest_commands(main):
    status, result = main("train", "task=export", "--help")
    assert status == 0
    assert "python train.py" in result
