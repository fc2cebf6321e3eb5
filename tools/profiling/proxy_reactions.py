"""Checks that the proxies of FID, FVD and E-FID react as those metrics should, through all of evaluate.py.

    python -m tools.profiling.proxy_reactions outputs/proxy   folder of the three runs

The reference is a set of videos of held-out synthetic speakers with a neutral face and sentences that no training set
contains. It is compared with the same videos, with noise and blur of two strengths, with the same sentences and a happy
face of two levels (sound and lips stay the same), and with other sentences. Landmarks come from the landmark files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from configs.evaluation import EFIDConfig, EvaluateConfig, FIDConfig, FVDConfig
from configs.options import read_options, run_script
from evaluation.evaluate_folders import evaluate
from metrics.networks.proxy import find_proxies
from preparation.synthetic import SyntheticClip, held_out_people, render_clip, write_speaker
from runtime.console import new_console

Frames = list[np.ndarray]
CLIPS, SECONDS, SIZE = 16, 2.0, 128
SEED = 8_000_000  # first sentence number; no training set uses it: their numbers are hashes
NAMES = {"fid": "image", "fvd": "video", "efid": "expression"}


def main(runs: str) -> None:
    """Prints the values of all metrics for every set."""
    files = {metric: found_in(Path(runs), kind) for metric, kind in NAMES.items()}
    with tempfile.TemporaryDirectory(prefix="proxy-reactions-") as name:
        folder = Path(name)
        print(f"{'':22}{'FID':>12}{'FVD':>12}{'E-FID':>12}   of proxies; {CLIPS} clips of {SECONDS:g} s")
        for kind in write_sets(folder):
            values, floor = measure(folder, kind, files)
            print(f"{kind:22}" + "".join(f"{values[metric]:12.6f}" for metric in NAMES) + f"   FVD's floor {floor:.6f}")


def found_in(runs: Path, kind: str) -> str:
    """Returns the weights of a proxy below a folder of runs.

    Raises:
        FileNotFoundError: If there are none.
    """
    files = find_proxies(runs, kind)
    if not files:
        raise FileNotFoundError(f"{runs}: has no proxy_{kind}.safetensors; train experiment=proxy/{kind}")
    return str(files[-1])


def write_sets(folder: Path) -> Iterator[str]:
    """Writes the reference and then every set into a folder of its name; yields the names of the sets."""
    people = held_out_people()

    def talk(number: int, emotion: str = "neutral", level: int = 1, other: int = 0) -> SyntheticClip:
        person = people[number % len(people)]
        sentence_seed = SEED + number + other
        return render_clip(person, emotion, level, sentence_seed, SECONDS, SIZE, voice_emotion=("neutral", 1))

    noise = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3))
    changed: dict[str, Callable[[int], tuple[SyntheticClip, Frames]]] = {
        "reference": lambda number: changed_frames(talk(number)),
        "the same": lambda number: changed_frames(talk(number)),
        "noise of 5 levels": lambda number: changed_frames(talk(number), lambda frame: noisy(frame, 5 * noise)),
        "noise of 20 levels": lambda number: changed_frames(talk(number), lambda frame: noisy(frame, 20 * noise)),
        "blur of 1 pixel": lambda number: changed_frames(talk(number), lambda frame: blurred(frame, 1)),
        "blur of 3 pixels": lambda number: changed_frames(talk(number), lambda frame: blurred(frame, 3)),
        "happy, level 1": lambda number: changed_frames(talk(number, "happy", 1)),
        "happy, level 3": lambda number: changed_frames(talk(number, "happy", 3)),
        "other sentences": lambda number: changed_frames(talk(number, other=1000)),
    }
    for name, make in changed.items():
        for number in range(CLIPS):
            clip, frames = make(number)
            write_speaker(folder / name / f"{number:02d}.mp4", clip, clip.sound, frames)
        if name != "reference":
            yield name


def changed_frames(
    clip: SyntheticClip, change: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> tuple[SyntheticClip, Frames]:
    """Returns a clip with its frames, each changed by ``change``."""
    return clip, [change(frame) for frame in clip.frames()]


def noisy(frame: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Returns a frame with noise added, clipped to uint8."""
    return np.clip(frame + noise, 0, 255).round().astype(np.uint8)


def blurred(frame: np.ndarray, radius: float) -> np.ndarray:
    """Returns a frame blurred with a Gaussian of ``radius`` pixels."""
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


def measure(folder: Path, kind: str, files: dict[str, str]) -> tuple[dict[str, float], float]:
    """Returns metric -> value of a set compared with the reference, and FVD's floor."""
    config = EvaluateConfig(
        generated=str(folder / kind),
        reference=str(folder / "reference"),
        output=str(folder / "results.json"),
        metrics=list(NAMES),
        protocol="emotivetalk",
        device="cpu",
        bootstrap=0,
        cache=str(folder / "cache"),
        fid=FIDConfig(network="proxy", weights=files["fid"]),
        fvd=FVDConfig(network="proxy", weights=files["fvd"]),
        efid=EFIDConfig(network="proxy", weights=files["efid"], landmarks="sidecar"),
    )
    results = evaluate(config, new_console(stderr=True, quiet=True))
    values = {value.name: value for value in results.values}
    return {name: values[name].value for name in NAMES}, float(str(values["fvd"].extra["floor"]))


if __name__ == "__main__":
    run_script(lambda: main(**read_options(__doc__, sys.argv[1:], {}, places=("runs",))))
