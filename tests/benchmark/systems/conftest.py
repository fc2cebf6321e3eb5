"""Stub repositories laid out like the real ones, two cases to make, and a way to make them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from benchmark.runner import run_system
from configs.systems import RunSystemConfig
from media import VideoWriter

STUBS = Path(__file__).parent / "stubs"
SIZE = 256
STEP = 7  # by which the real videos grow redder with each frame
CLICK = 1600  # samples: longer than a frame, so that every frame rate shows it
# stub -> where its script lies; "drawing.py" goes beside it
SCRIPTS = {
    "sadtalker": "inference.py",
    "anitalker": "code/demo.py",
    "aniportrait": "scripts/audio2vid.py",
    "hallo": "scripts/inference.py",
    "pdfgc": "inference.py",
    "styletalk": "inference_for_demo.py",
    "dreamtalk": "inference_for_demo_video.py",
}
FILES = {
    "sadtalker": [
        "src/test_audio2coeff.py",
        "src/config/facerender_still.yaml",
        "checkpoints/SadTalker_V0.0.2_512.safetensors",
        "checkpoints/mapping_00109-model.pth.tar",
    ],
    "anitalker": [
        "ckpts/stage1.ckpt",
        "ckpts/stage2_audio_only_hubert.ckpt",
        "ckpts/chinese-hubert-large/config.json",
        "results/frames/999999.png",
    ],
    "aniportrait": [
        *(f"pretrained_model/{name}" for name in ("denoising_unet.pth", "audio2mesh.pt", "audio2pose.pt")),
        "pretrained_model/pose_guider.pth",
        "output/old.mp4",
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


@dataclass(frozen=True)
class Talk:
    """One case: what is said in it, and how its stub videos look."""

    name: str
    tint: tuple[int, int, int]
    seconds: float
    click: float


TALKS = (Talk("first", (200, 40, 40), 1.4, 0.6), Talk("sub dir/sécond (2)", (40, 60, 200), 1.0, 0.32))


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    """A stub repository of each of the seven, by name."""
    root = tmp_path_factory.mktemp("repositories")
    for name, script in SCRIPTS.items():
        repository = root / name
        for file in FILES[name]:
            (repository / file).parent.mkdir(parents=True, exist_ok=True)
            (repository / file).write_text("")
        (repository / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(STUBS / f"{name}.py", repository / script)
        shutil.copy(STUBS / "drawing.py", (repository / script).parent)
        if name in SETTINGS:
            file, content = SETTINGS[name]
            (repository / file).parent.mkdir(parents=True, exist_ok=True)
            (repository / file).write_text(yaml.safe_dump(content))
    (root / "dreamtalk/configs").mkdir()
    (root / "dreamtalk/configs/default.py").write_text("CFG = 1\n")
    # The trap: features of a demonstration clip, which AniTalker takes for every sound where it finds them.
    (root / "anitalker/test_demos/audios_hubert").mkdir(parents=True)
    np.save(root / "anitalker/test_demos/audios_hubert/english_female.npy", np.zeros((25, 80, 1)))
    return {name: root / name for name in SCRIPTS}


def listing(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def face_csv(path: Path, frames: int, width: int = SIZE) -> None:
    """OpenFace landmarks of a face in the middle of the picture."""
    points = np.stack([np.linspace(0.3, 0.7, 68), 0.5 + 0.24 * np.cos(np.linspace(-np.pi, np.pi, 68))], 1)
    points[36:48] = [0.5, 0.42]
    points[36:42, 0], points[42:48, 0] = 0.41, 0.59
    points[60:68] = [0.5, 0.42 + 0.18 * 61 / 50]  # eyes and mouth in the proportions of PC-AVS's template
    points *= width
    names = [f"{axis}_{index}" for axis in "xy" for index in range(68)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "face_id", "timestamp", "confidence", "success", *names])
        for index in range(frames):
            writer.writerow([index + 1, 0, index / 25, 0.98, 1, *points.T.ravel().round(3)])


def write_mat(path: Path, rows: int) -> None:
    coeff = np.zeros((rows, 257), np.float32)
    coeff[:, 224] = np.linspace(0, 0.3, rows)
    transform = np.tile(np.array([256, 256, 0.9, 128, 130], np.float32), (rows, 1))
    savemat(path, {"coeff": coeff, "transform_params": transform})


def write_case(folder: Path, talk: Talk, number: int) -> dict[str, str]:
    """The files of a case, and its row."""
    frames = round(talk.seconds * 25)
    stem = f"case {number}"
    portrait, video, wav = (folder / f"{stem}{ending}" for ending in (".png", ".mp4", ".wav"))
    Image.fromarray(np.full((SIZE, SIZE, 3), talk.tint, np.uint8)).save(portrait)
    face_csv(video.with_suffix(".csv"), frames)
    samples = np.zeros(round(talk.seconds * 16_000), np.float32)
    samples[round(talk.click * 16_000) :][:CLICK] = 0.9
    with wave.open(str(wav), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    with VideoWriter(video, size=(SIZE, SIZE), sound=samples, crf=0) as writer:
        for index in range(frames):
            writer.write(np.full((SIZE, SIZE, 3), (index * STEP, *talk.tint[1:]), np.uint8))
    (folder / f"{stem}.json").write_text(json.dumps([31] * int(talk.seconds * 30)))
    write_mat(folder / f"{stem}.mat", frames)
    names = {"portrait": portrait, "speech": wav, "video": video, "emotion.video": video}
    names |= {"phonemes": folder / f"{stem}.json", "style": folder / f"{stem}.mat", "pose": folder / f"{stem}.mat"}
    return {"clip": talk.name, **{name: path.name for name, path in names.items()}}


def write_cases(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """The folder of the cases' files, and their rows."""
    folder = tmp_path_factory.mktemp("cases (all)")
    return folder, [write_case(folder, talk, number) for number, talk in enumerate(TALKS)]


@pytest.fixture(scope="session")
def cases(rows):
    """The list of cases."""
    return write_cases(rows[0] / "cases.csv", rows[1])


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory):
    """An interpreter that can import this project's packages and finds every package a system asks for."""
    folder = tmp_path_factory.mktemp("env")
    python = folder / "python"
    # What the real environments hold and this one lacks is taken for there: the stubs need none of it.
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exit 0; fi\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture(scope="session")
def make_clips(repositories, cases, interpreter, tmp_path_factory):
    """make(system, output, **keys) -> exit status and the records by clip."""

    def make(system, output, **keys):
        scratch = tmp_path_factory.mktemp("scratch")
        keys = {
            "repository": str(repositories[system]) if system in repositories else None,
            "python": str(interpreter),
            "cases": str(cases),
            "landmarks": "sidecar",
            "scratch": str(scratch),
            "seed": 7,
            **keys,
        }
        status = run_system(RunSystemConfig(system=system, output=str(output), **keys))
        found = sorted((Path(output) / "records").rglob("*.json"))
        records = [json.loads(path.read_text())["record"] for path in found]
        assert not list(scratch.iterdir()), "a job left its folder"
        return status, {record["clip"]: record for record in records}

    return make


def git(repository: Path, *arguments: str) -> str:
    told = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, text=True, check=True)
    return told.stdout.strip()
