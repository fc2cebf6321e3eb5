"""The dependencies resolve on every platform, and the lock is what pyproject.toml allows."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = re.search(r"'\.\[([a-z,-]+)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split(",")
LOCK = ROOT / "requirements.lock"
PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"]
FROM_SOURCE = ["antlr4-python3-runtime", "deepspeed"]  # everything else has a binary distribution
UNREACHABLE = "error sending request|client error|dns error|Failed to fetch|timed out|Could not connect"


def index_settings() -> dict[str, str]:
    """The environment for uv: the index that pip is configured with, where it is another than the default."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^(?:global|install|:env:)\.(index-url|cert)='(.*)'$", listed, re.MULTILINE))
    names = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    return {**{names[key]: value for key, value in found.items()}, **os.environ}


def resolve(platform: str, python: str, *options: str, macos: str = "14.0") -> dict[str, str]:
    """Name -> version of everything ``make setup`` would install; nothing is installed."""
    command = [
        str(Path(sys.executable).with_name("uv")), "pip", "compile", "-q", str(ROOT / "pyproject.toml"),
        *(f"--extra={extra}" for extra in EXTRAS), f"--python-platform={platform}", f"--python-version={python}",
        "--only-binary=:all:", *(f"--no-binary={name}" for name in FROM_SOURCE), "--no-header", "--no-annotate",
        *options,
    ]  # fmt: skip
    environment = {**index_settings(), "MACOSX_DEPLOYMENT_TARGET": macos}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    if done.returncode and re.search(UNREACHABLE, done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)


def requirements(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def locked() -> dict[str, str]:
    return dict(line.split("==") for line in LOCK.read_text(encoding="utf-8").splitlines())


PYTHONS = ["3.11", "3.12", "3.13"]
DAILY = set(zip(PLATFORMS, [*PYTHONS, PYTHONS[0]], strict=True))  # each platform once
COMBINATIONS = [
    pytest.param(*pair, marks=pytest.mark.slow if pair in DAILY else pytest.mark.nightly)
    for pair in itertools.product(PLATFORMS, PYTHONS)
]


@pytest.mark.parametrize(("platform", "python"), COMBINATIONS)
def test_setup_resolves(platform, python):
    found = resolve(platform, python)
    assert {"av", "torch", "lightning", "mediapipe", "mypy"} <= found.keys()
    assert ("decord" in found) == platform.startswith("x86_64")
    assert ("deepspeed" in found) == ("manylinux" in platform)


@pytest.mark.slow
@pytest.mark.parametrize(
    "platform", [PLATFORMS[0], *(pytest.param(other, marks=pytest.mark.nightly) for other in PLATFORMS[1:])]
)
def test_the_lock_holds_on_every_platform(platform):
    """On macOS from 15: the version of opencv-contrib-python, which MediaPipe needs, is not built for 14."""
    found = resolve(platform, "3.11.9", f"--constraint={LOCK}", macos="15.0")
    versions = locked()
    assert {name: version for name, version in found.items() if name in versions} == {
        name: versions[name] for name in found if name in versions
    }
    assert set(found) - set(versions) <= {"colorama", "pywin32", "tzdata", "appnope"}  # of other systems alone


def test_the_lock_holds_names_and_versions_only():
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.!]*", line) for line in lines)
    assert list(locked()) == sorted(locked())
    assert len(locked()) == len(lines)


def test_the_lock_is_in_the_ranges():
    versions = locked()
    for wanted in requirements(*EXTRAS):
        if wanted.marker is None or wanted.marker.evaluate({**default_environment(), "platform_machine": "x86_64"}):
            version = versions[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(version), f"{wanted} and {version} in {LOCK.name}"


@pytest.mark.parametrize(
    ("system", "machine", "there"),
    [("linux", "x86_64", True), ("win32", "AMD64", True), ("linux", "aarch64", False), ("darwin", "arm64", False)],
)
def test_decord_is_asked_for_where_it_exists(system, machine, there):
    place = {"sys_platform": system, "platform_machine": machine}
    asked = [wanted.name for wanted in requirements() if wanted.marker is None or wanted.marker.evaluate(place)]
    assert ("decord" in asked) == there
    assert "av" in asked
