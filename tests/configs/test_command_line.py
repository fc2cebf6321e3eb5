"""What a person types arrives as typed, and what is wrong is said in one line; all through the real shell."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow


SHOW_SOURCE = "-c " + shlex.quote("""
import sys
from configs.command_line import run
from configs.preparation import PrepareConfig

def show(config):
    sys.stdout.buffer.write(config.source.encode("utf-8", "surrogateescape"))
    return 5

run("prepare", PrepareConfig, show)
""")


def prepare(arguments: str, script: str = "prepare.py") -> subprocess.CompletedProcess:
    command = f"{shlex.quote(sys.executable)} {script} {arguments}"
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, errors="surrogateescape")


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
def test_paths_are_taken_as_typed(path):
    told = prepare(f"source={shlex.quote(path)}", SHOW_SOURCE)
    assert (told.stdout, told.returncode) == (path, 5), told.stderr


def test_a_leading_tilde_is_home():
    assert prepare("source='~/x y'", SHOW_SOURCE).stdout == str(Path.home() / "x y")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("datset=mead", "no key 'datset'; did you mean dataset"),
        ("dataset=meat", "dataset=meat: there is no such option; did you mean mead? There are folder, hdtf, mead"),
        ("workers=many", "workers=many"),
        ("face.scale=wide", "face.scale"),
        ("audio.required=maybe", "audio.required"),
        ("encoders/audio=wav", "encoders/audio=wav: there is no such option; there are mel, wav2vec2"),
        ("preset=", "preset"),
        ("task=perpare output=x", "task=perpare: expected one of prepare, merge, check, weights"),
        ("dataset=mead", "output is missing"),
        ("output=x", "dataset is missing"),
        ("dataset=mead output=x", "source is missing"),
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
def test_what_is_wrong_is_said_in_one_line(arguments, said):
    told = prepare(arguments)
    assert told.returncode == 2
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_help_shows_the_commonest_commands_and_the_groups():
    told = prepare("--help").stdout
    assert "python prepare.py dataset=folder preset=small source=my_videos output=data/mine" in told
    for group in ("dataset", "preset", "encoders/landmarks", "encoders/audio", "encoders/motion", "encoders/codec"):
        for option in (ROOT / "configs" / group).glob("*.yaml"):
            assert re.search(rf"{group} .*\b{option.stem}\b", told), f"{group}={option.stem} is not in --help"
    assert "max_rejected" in told
