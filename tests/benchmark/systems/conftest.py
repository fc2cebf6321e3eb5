"""Stub repositories laid out like the real ones, two cases, and a fixture that generates clips."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmark.runner import run_system
from configs.systems import RunSystemConfig
from tests.helpers.cases import SCRIPTS, TALKS, write_case, write_cases
from tests.helpers.files import touch

STUBS = Path(__file__).parent / "stubs"
FILES = {
    "sadtalker": [
        *("src/test_audio2coeff.py", "src/config/facerender_still.yaml"),
        *("checkpoints/SadTalker_V0.0.2_512.safetensors", "checkpoints/mapping_00109-model.pth.tar"),
    ],
    "anitalker": [
        *("ckpts/stage1.ckpt", "ckpts/stage2_audio_only_hubert.ckpt", "ckpts/chinese-hubert-large/config.json"),
        "results/frames/999999.png",
    ],
    "aniportrait": [
        *(f"pretrained_model/{name}" for name in ("denoising_unet.pth", "audio2mesh.pt", "audio2pose.pt")),
        *("pretrained_model/pose_guider.pth", "output/old.mp4"),
    ],
    "hallo": [
        "hallo/__init__.py",
        *(f"pretrained_models/{name}/x" for name in ("hallo", "stable-diffusion-v1-5", "face_analysis")),
    ],
    "pdfgc": ["lib/inferencer.py", "checkpoints/motion_model.pth", "test/mp4s/test1.mp4"],
    "styletalk": ["checkpoints/styletalk_checkpoint.pth", "checkpoints/renderer_checkpoint.pt", "silent.mp4"],
    "dreamtalk": ["checkpoints/denoising_network.pth", "checkpoints/renderer.pt", "output_video/old.mp4"],
}
SETTINGS = {
    "aniportrait": (
        "configs/prompts/animation_audio.yaml",
        {"pose_guider_path": "./pretrained_model/pose_guider.pth", "test_cases": {"./lyl.png": ["./lyl.wav"]}},
    ),
    "hallo": ("configs/inference/default.yaml", {"save_path": "./.cache", "source_image": "1.jpg"}),
}


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    """A stub repository of each of the seven systems, by name."""
    root = tmp_path_factory.mktemp("repositories")
    for name, script in SCRIPTS.items():
        repository = root / name
        touch(repository, *FILES[name], script)
        shutil.copy(STUBS / f"{name}.py", repository / script)
        shutil.copy(STUBS / "drawing.py", (repository / script).parent)
        if name in SETTINGS:
            file, content = SETTINGS[name]
            (touch(repository, file) / file).write_text(yaml.safe_dump(content))
    (touch(root, "dreamtalk/configs/default.py") / "dreamtalk/configs/default.py").write_text("CFG = 1\n")
    # AniTalker uses these features of a demonstration clip for every sound if they exist.
    (root / "anitalker/test_demos/audios_hubert").mkdir(parents=True)
    np.save(root / "anitalker/test_demos/audios_hubert/english_female.npy", np.zeros((25, 80, 1)))
    return {name: root / name for name in SCRIPTS}


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """The folder of the cases' files, and their rows of the CSV file."""
    folder = tmp_path_factory.mktemp("cases (all)")
    return folder, [write_case(folder, talk, number) for number, talk in enumerate(TALKS)]


@pytest.fixture(scope="session")
def cases(rows):
    """The CSV file of both cases."""
    return write_cases(rows[0] / "cases.csv", rows[1])


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory):
    """An interpreter with this project's packages that reports every other package as installed."""
    python = tmp_path_factory.mktemp("env") / "python"
    # The stubs do not need the real packages, so the check for packages always succeeds.
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exit 0; fi\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture(scope="session")
def make_clips(repositories, cases, interpreter, tmp_path_factory):
    """Returns make(system, output, **keys) -> exit status and records by clip."""

    def make(system, output, **keys):
        scratch = tmp_path_factory.mktemp("scratch")
        repository = str(repositories[system]) if system in repositories else None
        places = {"repository": repository, "python": str(interpreter), "cases": str(cases), "scratch": str(scratch)}
        keys = {**places, "landmarks": "sidecar", "seed": 7, **keys}
        status = run_system(RunSystemConfig(system=system, output=str(output), **keys))
        found = sorted((Path(output) / "records").rglob("*.json"))
        records = [json.loads(path.read_text())["record"] for path in found]
        assert not list(scratch.iterdir()), "a job left its folder"
        return status, {record["clip"]: record for record in records}

    return make
