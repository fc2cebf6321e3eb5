"""Fixtures for all tests. Real clips and weights come from the folder named by EMOTIVETALK_ASSETS."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

# Tests run in parallel processes, which start others; more threads would only slow them down. Also, two threads sum in
# another order than the single thread that Lightning gives each of two ranks.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background, and nohup, hand on that these are ignored, also to what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder with data/, weights/ and oracle/; without it the test is skipped."""
    folder = os.environ.get("EMOTIVETALK_ASSETS")
    if not folder:
        pytest.skip("needs real clips and weights: set EMOTIVETALK_ASSETS to the folder that holds data/ and weights/")
    if not (Path(folder) / "data").is_dir():
        pytest.fail(f"EMOTIVETALK_ASSETS={folder}: has no folder data/")
    return Path(folder).resolve()


@pytest.fixture
def asset_weights(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Points the weight registry at the assets' weights."""
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(assets / "weights"))
    return assets / "weights"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Returns once(name, make) -> a folder that ``make`` fills once for all processes of the session. Read-only."""
    mine = tmp_path_factory.getbasetemp()
    common = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = common / "once" / name, common / "once" / f"{name}.done"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{done}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def shards(once: Any) -> Path:
    """Shards of noise for V-AID and ETHD, in a folder with special characters in its name."""
    from tests.helpers.shards import make_shards

    settings: dict[str, Any] = {"frames": (30, 40, 50), "splits": ("train", "train", "val")}
    return once("it's (1) #shards", lambda folder: make_shards(folder, **settings))


@pytest.fixture(scope="session")
def vaid(shards: Path, once: Any) -> Path:
    """Run directory of a V-AID trained on ``shards``."""
    from tests.helpers.train_config import train_vaid

    return once("vaids", lambda folder: train_vaid(shards, folder, "run_id=v", steps=1)) / "vaid" / "v"


@pytest.fixture(scope="session")
def codec_shards(once: Any) -> Path:
    """Shards whose latents have the shape of a real codec's."""
    from tests.helpers.shards import make_codec_shards

    return once("codec_shards", make_codec_shards)


@pytest.fixture(scope="session")
def codec_vaid(codec_shards: Path, once: Any) -> Path:
    """Run directory of a V-AID trained on ``codec_shards``."""
    from tests.helpers.train_config import train_vaid

    return once("codec_vaids", lambda folder: train_vaid(codec_shards, folder, "run_id=v", steps=1)) / "vaid" / "v"


@pytest.fixture(scope="session")
def encoders() -> tuple[Any, int]:
    """Encoders of preset tiny, and the side of its frames."""
    from tests.helpers.ethd_run import build_encoders

    return build_encoders("tiny")


@pytest.fixture(scope="session")
def runs(encoders: tuple[Any, int], once: Any) -> Path:
    """Folder with run directories ``vaid``, ``other_vaid`` and ``ethd`` (exported), with random weights."""
    from tests.helpers.ethd_run import write_runs

    return once("runs", lambda folder: write_runs(folder, encoders))


@pytest.fixture(scope="session")
def files(once: Any) -> Path:
    """Folder with a portrait, speech and a video: face.png, face.csv, voice.wav, smile.mp4, smile.csv."""
    from tests.helpers.inputs import write_inputs

    return once("inputs", write_inputs)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SLURM cluster for all tests of this process; skipped if it cannot be started."""
    from tests.helpers.slurm import missing, slurm

    if reason := missing():
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, controlled by Playwright; skipped if one of them is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: install chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()
