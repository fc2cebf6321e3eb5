"""The folder of a demonstration, with small moving pictures instead of faces."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers import videos
from tools.demo.__main__ import write_plan
from tools.demo.demo_plan import RUN, synthetic_plan
from tools.pipeline.step import StepRecord

SIZE, FRAMES = 64, 25
ASKED = {
    "emotions/M102_happy": "happy, level 3, requested by label",
    "emotions/W109_sad": "sad, level 1, requested by label",
    "drive/lips": "drive=lips",
    "drive/expression": "drive=expression",
    "dicte/with": "Di-CTE makes a sequence of it",
    "dicte/without": "the same expression in every frame",
    "long": "1.0 s of speech, its own expression",
}


def write_video(path, moving):
    """Writes a video of a grey square in which the rows of ``moving`` change their brightness."""
    frames = np.full((FRAMES, SIZE, SIZE, 3), 100, np.uint8)
    for place, frame in enumerate(frames):
        frame[moving] += np.uint8(60 * (place % 5) / 4)
    videos.write_video(path, frames, sound=0.1 * np.sin(np.arange(FRAMES * 640) / 8).astype(np.float32))


def write_curves(run, columns):
    (run / "csv").mkdir(parents=True)
    with (run / "csv" / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *columns])
        writer.writerows([step, *(1 / (step + 1) for _ in columns)] for step in (9, 19, 29))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder after all steps except that of the page."""
    folder = tmp_path_factory.mktemp("demonstration")
    steps = synthetic_plan(folder)
    write_plan(steps, folder)
    for step in steps[:-1]:
        StepRecord("digest", True, 75.0, 60.0, "2026-11-22T20:00:00+00:00", step.typed).write(folder, step)
    write_curves(folder / "runs" / "vaid" / RUN, ["train/lip_near1", "val/lip_near1", "train/lip_mse"])
    write_curves(folder / "runs" / "ethd" / RUN, ["train/loss", "val/loss"])
    asked = []
    for name, words in ASKED.items():
        true = f"true/{name}.mp4" if name == "long" or name.startswith("emotions") else None
        row = {"portrait": "portraits/a.png", "speech": "a.flac", "output": f"{name}.mp4"}
        asked.append({"name": name, "speaker": name[9:13], "seen": False, "words": words, "row": row, "true": true})
        made = folder / ("long" if name == "long" else "videos") / f"{name}.mp4"
        write_video(made, slice(40, 56) if "lips" in name else slice(4, 36))
        record = {"video": {"frames": FRAMES}, "sampling": {"window": 16, "overlap": 3}}
        made.with_suffix(".json").write_text(json.dumps(record | {"portrait": {"crop": [0, 0, SIZE]}}))
        if true:
            write_video(folder / "cases" / true, slice(4, 36))
    (folder / "cases" / "portraits").mkdir()
    Image.fromarray(np.full((SIZE, SIZE, 3), 100, np.uint8)).save(folder / "cases" / "portraits" / "a.png")
    (folder / "data").mkdir()
    Image.fromarray(np.full((700, 1040, 3), 30, np.uint8)).save(folder / "data" / "contact_sheet.png")
    expression, emotion = {"emotion": 1.0, "emotion_truth": 1.0}, {"emotion": 0.125, "emotion_of_true_clips": 0.96}
    fid = {"value": 12.3456, "title": "FID proxy", "official": False, "better": "lower", "n": 2, "expected": 2}
    fid |= {"network": "proxy for image", "sha256": "0123456789abcdef"}
    sync = {"value": None, "not_computed": "needs syncnet_v2.model\nand more words"}
    content = {
        "cases/cases.json": {"asked": asked, "unseen": ["M102", "W109"], "train": 72, "val": 8, "test": 16},
        "score_vaid.json": {"lip": {"near1": 0.2, "chance": 0.024, "r2": 0.91}, "expression": expression},
        "score_before.json": {"lips_neutral": 0.38, **emotion, "own_psnr": 27.8, "own_sharpness": 0.55},
        "score_ethd.json": {
            "lips_neutral": 0.41, "lips_of_true_clip": 0.98, **emotion, "own_psnr": 28.1, "own_sharpness": 0.6,
        },
        "results.json": {"metrics": {"fid": fid, "sync": sync}},
    }  # fmt: skip
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value))
    return folder
