"""Makes pseudo-systems: videos with a known place in a table, to check that metrics react as expected.

    python -m benchmark.pseudo_systems real=FOLDER output=FOLDER [shift=10]

For every real video, under its name:

    swapped_speech       its pictures with the next video's sound: only Sync may get worse
    still_image          its first frame throughout: the worst motion; FVD must get worse
    shifted_N_frames     its pictures with its sound N frames early: Sync searches 15 frames, so its score hardly
                         changes, but the offset it finds does

Evaluate each folder against ``real`` with ``cell.mode=control``. Landmark files are copied along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.sidecars import copy_sidecars, hold_landmarks
from configs.errors import ConfigError
from configs.options import Readers, count, folder, path, read_options, run_script
from encoders.protocols import FPS, SAMPLE_RATE
from evaluation.pairs import EvaluationError, find_videos
from media import FrameReader, MediaError, VideoWriter, read_sound
from preparation.synthetic.write import factors_path, landmarks_path
from runtime.errors import UserError
from runtime.ownership import claim

SHIFT = 10  # frames
SEARCHED = 15
CRF = 8  # almost lossless, as benchmark.normalise writes clips


@dataclass(frozen=True)
class Pseudo:
    """Content of one pseudo-system's video.

    Attributes:
        sound: (S,) float32 at 16 kHz.
        still: Whether to show only the first frame.
    """

    sound: np.ndarray
    still: bool = False


def make_pseudo_systems(real: Path, output: Path, shift: int = SHIFT) -> dict[str, int]:
    """Writes the folders of all pseudo-systems.

    Args:
        real: Folder of real videos with sound.
        output: Folder of the results.
        shift: Frames at 25 fps by which the sound is early in ``shifted_N_frames``.

    Returns:
        Folder name -> number of videos.

    Raises:
        UserError: If there are fewer than two videos, or one cannot be used.
    """
    try:
        found = {name: paths[0] for name, paths in sorted(find_videos(real).items())}
        if len(found) < 2:
            raise UserError(f"{real}: has one video; at least two are needed to swap speech")
        sounds = {name: read_sound(path, rate=SAMPLE_RATE) for name, path in found.items()}
        names = list(found)
        kinds: dict[str, Callable[[int], Pseudo]] = {
            "swapped_speech": lambda place: Pseudo(sounds[names[(place + 1) % len(names)]]),
            "still_image": lambda place: Pseudo(sounds[names[place]], still=True),
            f"shifted_{shift}_frames": lambda place: Pseudo(_ahead(sounds[names[place]], shift)),
        }
        videos = [Path(kind, f"{name}.mp4") for kind in kinds for name in names]
        files = [make(video) for video in videos for make in (Path, landmarks_path, factors_path)]
        claim(output, [path.as_posix() for path in files], f"output={output}")
        for kind, make in kinds.items():
            for place, name in enumerate(names):
                _write(found[name], output / kind / f"{name}.mp4", make(place))
    except (MediaError, EvaluationError) as error:
        raise UserError(str(error)) from error
    return dict.fromkeys(kinds, len(names))


def _ahead(sound: np.ndarray, frames: int) -> np.ndarray:
    """Moves the sound earlier by a number of frames; its end is silent."""
    samples = min(len(sound), frames * SAMPLE_RATE // FPS)
    return np.pad(sound[samples:], (0, samples))


def _write(real: Path, target: Path, pseudo: Pseudo) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    reader = FrameReader(real, fps=FPS)
    frames = len(reader)
    samples = frames * SAMPLE_RATE // FPS
    sound = np.resize(pseudo.sound, samples).astype(np.float32)  # a shorter sound is repeated
    size = reader.size[0] - reader.size[0] % 2, reader.size[1] - reader.size[1] % 2
    first: np.ndarray | None = None
    with VideoWriter(target, size=size, fps=FPS, sound=sound, sound_rate=SAMPLE_RATE, crf=CRF) as out:
        for frame in reader:
            first = frame if first is None else first
            out.write(np.ascontiguousarray((first if pseudo.still else frame)[: size[1], : size[0]]))
    copy_sidecars(real, target)
    if pseudo.still:
        hold_landmarks(real, target, frames)
        factors_path(target).unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and makes the folders.

    Raises:
        UserError: If they cannot be made.
    """
    known: Readers = {"real": folder, "output": path, "shift": count}
    options = read_options(__doc__, arguments, known, required=("real", "output"))
    if options.get("shift", SHIFT) > SEARCHED:
        raise ConfigError(f"shift={options['shift']}: expected 1 to {SEARCHED} frames, which Sync searches")
    for name, videos in make_pseudo_systems(**options).items():
        print(f"{options['output'] / name}: {videos} videos")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
