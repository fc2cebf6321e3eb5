"""Whether a stand-in SyncNet finds offsets that were put in, through the whole of evaluate.py's Sync in ``fast`` mode.

    python -m speed.sync_offsets RUN/standin_sync.safetensors [clips]

Held-out synthetic speakers say sentences no training set holds. Their videos are the reference; for every offset from
-5 to +5 frames the generated videos are the same with the sound moved by it. Boxes come from the landmark files.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from configs.schema import EvaluateConfig, SyncConfig
from encoders.protocols import FPS, SAMPLE_RATE
from evaluation.run import evaluate_folders
from media import VideoWriter
from preparation.synthetic import EMOTIONS, identity, render_clip, split_of
from preparation.synthetic.write import factors_path, landmarks_path, openface_csv

OFFSETS = range(-5, 6)
SECONDS, SIZE = 4.0, 128
SEED = 7_000_000  # sentences from here on; the data sets' own seeds are hashes


def main(weights: str, clips: int = 10) -> None:
    """Prints the offsets found in every clip, and the share that is exact."""
    started = time.process_time()
    with tempfile.TemporaryDirectory(prefix="sync-offsets-") as name:
        folder = Path(name)
        write_videos(folder, clips)
        found = {offset: find(folder, offset, weights) for offset in OFFSETS}
    exact = 0
    for clip in sorted(found[0]):
        offsets = [found[offset].get(clip) for offset in OFFSETS]
        right = sum(a == b for a, b in zip(offsets, OFFSETS, strict=True))
        exact += right == len(OFFSETS)
        print(f"{clip:24} {' '.join(f'{offset!s:>4}' for offset in offsets)}   {right} of {len(OFFSETS)}")
    print(f"all offsets exact in {exact} of {clips} clips; {time.process_time() - started:.0f} s of processor time")


def write_videos(folder: Path, clips: int) -> None:
    """The clips with their sound at every offset; frames are drawn once."""
    people = [person for person in map(identity, range(24)) if split_of(person) == "test"]
    for number in range(clips):
        person, emotion = people[number % len(people)], EMOTIONS[number % len(EMOTIONS)]
        clip = render_clip(person, emotion, 1, SEED + number, SECONDS, SIZE)
        frames = list(clip.frames())
        for offset in (None, *OFFSETS):
            place = folder / ("real" if offset is None else str(offset)) / f"{person.name}_{emotion}_{number}.mp4"
            place.parent.mkdir(exist_ok=True)
            sound = moved(clip.sound, offset or 0)
            with VideoWriter(place, size=(SIZE, SIZE), fps=FPS, sound=sound, sound_rate=SAMPLE_RATE) as writer:
                for frame in frames:
                    writer.write(frame)
            landmarks_path(place).write_text(openface_csv(clip), encoding="utf-8")
            np.savez(factors_path(place), values=clip.factors, names=np.array(clip.factor_names))


def moved(sound: np.ndarray, frames: int) -> np.ndarray:
    """The sound ahead of the picture by so many frames, behind it where negative; silence where there is none left."""
    samples = frames * SAMPLE_RATE // FPS
    out = np.zeros_like(sound)
    if samples >= 0:
        out[: len(sound) - samples] = sound[samples:]
    else:
        out[-samples:] = sound[:samples]
    return out


def find(folder: Path, offset: int, weights: str) -> dict[str, int]:
    """Clip -> the offset found in it."""
    output = folder / "results.json"
    config = EvaluateConfig(
        generated=str(folder / str(offset)),
        reference=str(folder / "real"),
        output=str(output),
        metrics=["sync"],
        protocol="emotivetalk",
        device="cpu",
        bootstrap=0,
        cache=str(folder / "cache"),
        sync=SyncConfig(
            mode="fast", network="standin", weights=weights, detector="sidecar", min_track=50, min_face=20.0
        ),
    )
    evaluate_folders(config)
    results = json.loads(output.read_text())
    if offset == OFFSETS[-1]:
        for name in ("sync_c", "sync_d"):
            value = results["metrics"][name]
            print(value["title"], value["value"], "self-check", value["self_check"], value["warnings"])
    shutil.rmtree(folder / str(offset))
    rows = {row["clip"]: row["metrics"]["sync"]["generated"] for row in results["clips"] if "sync" in row["metrics"]}
    return {clip: int(row["offset"]) for clip, row in rows.items() if "offset" in row}


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:3]))
