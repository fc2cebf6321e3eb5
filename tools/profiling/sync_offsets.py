"""Whether a proxy SyncNet finds offsets that were put in, through the whole of evaluate.py's Sync in ``fast`` mode.

    python -m tools.profiling.sync_offsets RUN/proxy_sync.safetensors [clips=22]

Held-out synthetic speakers say sentences no training set holds; their videos are the reference. The generated videos
are the same, the sound of each moved by -5 to +5 frames in turn. Face boxes come from the landmark files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from configs.evaluation import EvaluateConfig, SyncConfig
from configs.options import count, read_options, run_script
from encoders.protocols import FPS, SAMPLE_RATE
from evaluation.evaluate_folders import evaluate_folders
from preparation.synthetic import EMOTIONS, held_out_people, render_clip, write_speaker

OFFSETS = range(-5, 6)
SECONDS, SIZE = 5.0, 128
SEED = 7_000_000  # sentences from here on; the data sets' own seeds are hashes


def main(weights: str, clips: int = 22) -> None:
    """Prints the offset found in every clip, and the share that is exact."""
    with tempfile.TemporaryDirectory(prefix="sync-offsets-") as name:
        folder = Path(name)
        wanted = write_videos(folder, clips)
        started = time.process_time()
        found = find(folder, weights)
        seconds = time.process_time() - started
    for clip, offset in wanted.items():
        print(f"{clip:28} put in {offset:+d}   found {found.get(clip)}")
    exact = sum(found.get(clip) == offset for clip, offset in wanted.items())
    print(f"exact in {exact} of {clips} clips; {seconds:.0f} s of processor time")


def write_videos(folder: Path, clips: int) -> dict[str, int]:
    """Writes ``real`` and ``made``; clip -> the offset put into it."""
    people = held_out_people()
    wanted = {}
    for number in range(clips):
        person, emotion = people[number % len(people)], EMOTIONS[number % len(EMOTIONS)]
        clip = render_clip(person, emotion, 1, SEED + number, SECONDS, SIZE)
        frames = list(clip.frames())
        name = f"{number:02d}_{person.name}_{emotion}"
        wanted[name] = OFFSETS[number % len(OFFSETS)]
        for side, offset in (("real", 0), ("made", wanted[name])):
            write_speaker(folder / side / f"{name}.mp4", clip, moved(clip.sound, offset), frames)
    return wanted


def moved(sound: np.ndarray, frames: int) -> np.ndarray:
    """The sound ahead of the picture by so many frames, behind it where negative; silence where there is none left."""
    samples = frames * SAMPLE_RATE // FPS
    out = np.zeros_like(sound)
    if samples >= 0:
        out[: len(sound) - samples] = sound[samples:]
    else:
        out[-samples:] = sound[:samples]
    return out


def find(folder: Path, weights: str) -> dict[str, int]:
    """Clip -> the offset found in it."""
    output = folder / "results.json"
    config = EvaluateConfig(
        generated=str(folder / "made"),
        reference=str(folder / "real"),
        output=str(output),
        metrics=["sync"],
        protocol="emotivetalk",
        device="cpu",
        bootstrap=0,
        cache=str(folder / "cache"),
        sync=SyncConfig(mode="fast", network="proxy", weights=weights, detector="sidecar", min_track=50, min_face=20.0),
    )
    evaluate_folders(config)
    clips = json.loads(output.read_text())["clips"]
    rows = {row["clip"]: row["metrics"].get("sync", {}).get("generated") for row in clips}
    return {clip: int(row["offset"]) for clip, row in rows.items() if row}


if __name__ == "__main__":
    run_script(lambda: main(**read_options(__doc__, sys.argv[1:], {"clips": count}, places=("weights",))))
