"""The container recipes: linted, and the same in both; no engine runs here."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "emotivetalk.def").read_text(encoding="utf-8")
# Apptainer's user guide, "Definition Files": what a section may be called.
SECTIONS = {"help", "files", "post", "environment", "runscript", "startscript", "test", "labels", "setup", "arguments"}


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^%", DEFINITION, flags=re.MULTILINE)
    return {part.split(maxsplit=1)[0]: part.split("\n", 1)[1] for part in parts}


def test_the_dockerfile_passes_hadolint():
    installed = Path(sys.executable).with_name("hadolint")
    program = str(installed) if installed.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_apptainer_definition_has_a_header_and_known_sections():
    header = dict(line.split(": ") for line in DEFINITION.split("%")[0].split("\n") if line)
    assert header == {"Bootstrap": "docker", "From": re.search(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)[1]}
    assert set(sections()) <= SECTIONS
    assert {"files", "post", "runscript"} <= set(sections())


@pytest.mark.parametrize("name", ["post", "environment", "runscript", "test"])
def test_its_scripts_are_shell(name):
    done = subprocess.run(["sh", "-n"], input=sections()[name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_install_the_same():
    packages, extras = (
        [re.findall(pattern, text)[0] for text in (DOCKERFILE, DEFINITION)]
        for pattern in (r"--no-install-recommends ([a-z0-9 ]+)", r"\[([a-z,]+)\]\"")
    )
    assert packages[0].split() == packages[1].split()
    assert extras[0] == extras[1]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras[0].split(",")) <= set(known)


def test_docker_is_given_shared_memory():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Dockerfile", "docs/cluster.md")]
    commands = [command for text in texts for command in re.findall(r"docker run[^\n]*(?:\\\n[^\n]*)*", text)]
    assert len(commands) >= 3
    assert all("--shm-size=8g" in command for command in commands)


def test_nothing_heavy_or_private_is_copied_in():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "outputs", "data", "results"} <= set(ignored)
