"""Two cases for published systems, and their files."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.helpers.sound import write_wav
from tests.helpers.videos import write_video

SIZE = 256
STEP = 7  # grey levels by which the red channel of the real videos grows per frame
CLICK = 1600  # samples: longer than a frame, so that it is visible at every frame rate
# stub -> path of its script; "drawing.py" is copied next to it
SCRIPTS = {
    "sadtalker": "inference.py",
    "anitalker": "code/demo.py",
    "aniportrait": "scripts/audio2vid.py",
    "hallo": "scripts/inference.py",
    "pdfgc": "inference.py",
    "styletalk": "inference_for_demo.py",
    "dreamtalk": "inference_for_demo_video.py",
}


@dataclass(frozen=True)
class Talk:
    """One case: its name, the look of its stub videos, and the time of its click."""

    name: str
    tint: tuple[int, int, int]
    seconds: float
    click: float


TALKS = (Talk("first", (200, 40, 40), 1.4, 0.6), Talk("sub dir/sécond (2)", (40, 60, 200), 1.0, 0.32))


def face_csv(path: Path, frames: int, width: int = SIZE) -> None:
    """Writes OpenFace landmarks of a face in the middle of the picture."""
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
    """Writes the files of a case; returns its row."""
    frames = round(talk.seconds * 25)
    stem = f"case {number}"
    portrait, video, wav = (folder / f"{stem}{ending}" for ending in (".png", ".mp4", ".wav"))
    Image.fromarray(np.full((SIZE, SIZE, 3), talk.tint, np.uint8)).save(portrait)
    face_csv(video.with_suffix(".csv"), frames)
    samples = np.zeros(round(talk.seconds * 16_000), np.float32)
    samples[round(talk.click * 16_000) :][:CLICK] = 0.9
    write_wav(wav, samples, 16_000)
    pictures = (np.full((SIZE, SIZE, 3), (index * STEP, *talk.tint[1:]), np.uint8) for index in range(frames))
    write_video(video, pictures, sound=samples, crf=0)
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
