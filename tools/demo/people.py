"""Lists of clips for trainings on 2, 4 and all people of a folder but two, who are held out.

    python -m tools.demo.people videos=DIR output=DIR [speaker=PATTERN]

``2.csv``, ``4.csv`` and ``all.csv`` are lists of dataset=manifest, and ``people.json`` names who is in them. The order
of the people is that of a hash of their names; with fewer than four, nobody is held out. ``speaker`` is that of
dataset=folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.options import Readers, folder, path, read_options, run_script
from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts import find_clips
from runtime.files import write_whole
from runtime.ownership import claim

FEWEST, HELD_OUT, FEWER, ALL = 4, 2, (2, 4), "all"


@dataclass(frozen=True)
class People:
    """Who is in which training.

    Attributes:
        held_out: People who are in none.
        trained: Name of a list -> people in its training; each list has those before it, and ``all`` is last.
    """

    held_out: tuple[str, ...]
    trained: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, clips: Sequence[ClipSource]) -> People:
        """Chooses by a hash of the names."""
        names = sorted({clip.speaker for clip in clips}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        held_out, others = (names[:HELD_OUT], names[HELD_OUT:]) if len(names) >= FEWEST else ([], names)
        fewer = {str(count): tuple(others[:count]) for count in FEWER if held_out and count < len(others)}
        return cls(tuple(held_out), {**fewer, ALL: tuple(others)})


def clips_of(videos: Path, speaker: str | None = None) -> list[ClipSource]:
    """Clips of a folder of videos that can be opened, with their speakers.

    Raises:
        LayoutError: If the folder cannot be read, or ``speaker`` names nobody.
    """
    found = find_clips(DatasetConfig(name="folder", split="train", speaker=speaker), videos).clips
    return [clip for clip in found if clip.problem is None]


def write_lists(clips: Sequence[ClipSource], output: Path) -> People:
    """Writes the lists and ``people.json``."""
    people = People.of(clips)
    names = [f"{name}.csv" for name in people.trained]
    claim(output, [*names, "people.json"], f"output={output}")
    for name, trained in people.trained.items():
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(("path", "speaker", "split"))
        for clip in clips:
            if clip.speaker in (*trained, *people.held_out):
                writer.writerow((clip.name, clip.speaker, "test" if clip.speaker in people.held_out else "train"))
        write_whole(output / f"{name}.csv", rows.getvalue())
    write_whole(output / "people.json", json.dumps(asdict(people), indent=1, ensure_ascii=False) + "\n")
    return people


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the lists."""
    known: Readers = {"videos": folder, "output": path, "speaker": str}
    options = read_options(__doc__, arguments, known, required=("videos", "output"))
    people = write_lists(clips_of(options["videos"], options.get("speaker")), options["output"])
    print(f"held out: {', '.join(people.held_out) or 'nobody'}")
    for name, trained in people.trained.items():
        print(f"{name}: {', '.join(trained)}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
