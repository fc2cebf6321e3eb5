"""Writes a video of one synthetic speaker with landmarks, to fine-tune on a person without a camera.

    python -m tools.quality.person_video FOLDER [person=2] [minutes=5] [size=128]

``person`` is the index of a speaker; 2 and 9 of every twelve are test speakers of ``dataset=synthetic``. The speaker
talks with the neutral expression. ``prepare.py dataset=folder preset=tiny`` reads the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from configs.options import Readers, count, read_options, run_script, seconds, whole
from preparation.synthetic import identity, render_clip, write_speaker
from runtime.errors import UserError

SEED = 1


def write_person(folder: Path, person: int = 2, minutes: float = 5.0, size: int = 128) -> Path:
    """Writes the video into a subfolder with the speaker's name; returns its path.

    Raises:
        UserError: If the video exists.
    """
    speaker = identity(person)
    path = folder / speaker.name / "talk.mp4"
    if path.exists():
        raise UserError(f"{path}: already exists; choose another folder")
    clip = render_clip(speaker, "neutral", 1, SEED, 60 * minutes, size)
    write_speaker(path, clip, clip.sound)
    return path


if __name__ == "__main__":
    known: Readers = {"person": whole, "minutes": seconds, "size": count}
    options = read_options(__doc__, sys.argv[1:], known, ("folder",))
    run_script(lambda: print(write_person(Path(options.pop("folder")), **options)))
