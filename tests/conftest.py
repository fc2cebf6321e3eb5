"""Fixtures every test may use; real clips and weights come from the folder named by EMOTIVETALK_ASSETS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

# The suite runs in parallel processes, which start others; threads on top of them only get in each other's way. And two
# threads add up in another order than the one that Lightning gives each of two ranks.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with data/, weights/ and oracle/; the test skips where it is not given."""
    folder = os.environ.get("EMOTIVETALK_ASSETS")
    if not folder:
        pytest.skip("needs real clips and weights: set EMOTIVETALK_ASSETS to the folder that holds data/ and weights/")
    if not (Path(folder) / "data").is_dir():
        pytest.fail(f"EMOTIVETALK_ASSETS={folder}: holds no folder data/")
    return Path(folder).resolve()


@pytest.fixture
def asset_weights(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Points the weight registry at the assets' weights."""
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(assets / "weights"))
    return assets / "weights"


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise for V-AID and ETHD, under a name that no grammar likes; only to be read."""
    from tests.helpers.shards import make_shards

    folder = tmp_path_factory.mktemp("data") / "it's (1) #shards"
    make_shards(folder, frames=(30, 40, 50), splits=("train", "train", "val"))
    return folder


@pytest.fixture(scope="session")
def vaid(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a V-AID of those shards; only to be read."""
    from tests.helpers.train_config import train_vaid

    return train_vaid(shards, tmp_path_factory.mktemp("vaid"), "run_id=v", steps=1).folder


@pytest.fixture(scope="session")
def codec_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with latents that are a real codec's; only to be read."""
    from tests.helpers.shards import make_codec_shards

    return make_codec_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="session")
def codec_vaid(codec_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a V-AID of those shards; only to be read."""
    from tests.helpers.train_config import train_vaid

    return train_vaid(codec_shards, tmp_path_factory.mktemp("vaid"), "run_id=v", steps=1).folder


@pytest.fixture(scope="session")
def encoders() -> tuple[Any, int]:
    """The encoders of preset tiny, and its frames' side."""
    from tests.helpers.ethd_run import build_encoders

    return build_encoders("tiny")


@pytest.fixture(scope="session")
def runs(encoders: tuple[Any, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``vaid``, ``other_vaid`` and ``ethd``, which is exported; their weights are random."""
    from tests.helpers.ethd_run import write_runs

    return write_runs(tmp_path_factory.mktemp("runs"), encoders)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait, a voice and a video: face.png, face.csv, voice.wav, smile.mp4, smile.csv."""
    from tests.helpers.inputs import write_inputs

    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SLURM for all tests of this process; the test skips where none can be started."""
    from tests.helpers.slurm import missing, slurm

    if reason := missing():
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; the test skips where either is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: install chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()
