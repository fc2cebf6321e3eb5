"""Test clips of synthetic speakers nobody trained on, with sentences no training set holds."""

from __future__ import annotations

from pathlib import Path

from encoders.protocols import FPS, SAMPLE_RATE
from media import VideoWriter
from preparation.synthetic import EMOTIONS, SyntheticClip, identity, render_clip, split_of
from preparation.synthetic.write import factors_path, landmarks_path, openface_csv, save_factors
from runtime.files import write_whole

CAST = 24  # the first members of the cast, of whom four are test people
SEED = 9_000_000  # sentences from here on; the data sets' own seeds are hashes
SIZE = 128


def draw_clips(folder: Path, clips: int, seconds: float, size: int = SIZE) -> None:
    """Writes videos with sound, landmarks and factors beside them; people and emotions take turns.

    Args:
        folder: where they go.
        clips: how many.
        seconds: length of each.
        size: pixels of each side.

    Raises:
        ValueError: if the length is below one second.
    """
    people = [person for person in map(identity, range(CAST)) if split_of(person) == "test"]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        person, emotion = people[number % len(people)], EMOTIONS[number % len(EMOTIONS)]
        path = folder / f"{number:03d}_{person.name}_{emotion}.mp4"
        _write(path, render_clip(person, emotion, 1, SEED + number, seconds, size))


def _write(path: Path, clip: SyntheticClip) -> None:
    size = (clip.size, clip.size)
    write_whole(landmarks_path(path), openface_csv(clip))
    save_factors(factors_path(path), clip)
    with VideoWriter(path, size=size, fps=FPS, sound=clip.sound, sound_rate=SAMPLE_RATE) as writer:
        for frame in clip.frames():
            writer.write(frame)
