"""Lists of videos for trainings on 2, 4 and all people of prepared clips but two, who are held out.

    python -m tools.demo.people shards=DIR output=DIR

Only people of whom prepare.py kept a clip are counted. ``2.csv``, ``4.csv`` and ``all.csv`` are lists of
dataset=manifest, and ``people.json`` names who is in them. The order of the people is that of a hash of their names;
with fewer than four, nobody is held out.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from configs.data import DataConfig
from configs.options import Readers, path, read_options, run_script
from datamodules.datamodule import ShardDataModule
from preparation.plan import file_of
from runtime.files import write_whole
from runtime.ownership import claim

FEWEST, HELD_OUT, FEWER, ALL = 4, 2, (2, 4), "all"
PEOPLE = "people.json"


@dataclass(frozen=True)
class KeptVideo:
    """A video of which clips were kept.

    Attributes:
        file: Its path below the folder of videos.
        speaker: Who speaks.
        clips: Number of clips.
    """

    file: str
    speaker: str
    clips: int


@dataclass(frozen=True)
class People:
    """Who is in which training.

    Attributes:
        held_out: People who are in none.
        trained: Name of a list -> people in its training; each list has those before it, and ``all`` is last.
        clips: Name of a list -> number of training clips.
    """

    held_out: tuple[str, ...]
    trained: Mapping[str, tuple[str, ...]]
    clips: Mapping[str, int]

    @classmethod
    def of(cls, videos: Iterable[KeptVideo]) -> Self:
        """Chooses by a hash of the names."""
        clips: Counter[str] = Counter()
        for video in videos:
            clips[video.speaker] += video.clips
        names = sorted(clips, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        held_out, others = (names[:HELD_OUT], names[HELD_OUT:]) if len(names) >= FEWEST else ([], names)
        trained = {str(count): tuple(others[:count]) for count in FEWER if held_out and count < len(others)}
        trained[ALL] = tuple(others)
        counts = {name: sum(clips[person] for person in group) for name, group in trained.items()}
        return cls(tuple(held_out), trained, counts)

    @classmethod
    def read(cls, lists: Path) -> Self:
        """Reads what ``write_lists`` wrote into a folder."""
        content = json.loads((lists / PEOPLE).read_text(encoding="utf-8"))
        trained = {name: tuple(group) for name, group in content["trained"].items()}
        return cls(tuple(content["held_out"]), trained, content["clips"])


def kept_videos(shards: Path) -> list[KeptVideo]:
    """Videos with clips in prepared training data, sorted by name.

    Raises:
        ShardError: If the data cannot be read.
    """
    data = ShardDataModule(DataConfig(root=str(shards), workers=0, min_frames=1))
    data.setup()
    found = Counter((file_of(str(data.meta(clip)["source"])), clip.entry.speaker) for clip in data.clips["train"])
    return [KeptVideo(file, speaker, count) for (file, speaker), count in sorted(found.items())]


def write_lists(videos: Sequence[KeptVideo], output: Path) -> People:
    """Writes the lists and ``people.json``."""
    people = People.of(videos)
    names = [f"{name}.csv" for name in people.trained]
    claim(output, [*names, PEOPLE], f"output={output}")
    for name, trained in people.trained.items():
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(("path", "speaker", "split"))
        for video in videos:
            if video.speaker in (*trained, *people.held_out):
                writer.writerow((video.file, video.speaker, "test" if video.speaker in people.held_out else "train"))
        write_whole(output / f"{name}.csv", rows.getvalue())
    write_whole(output / PEOPLE, json.dumps(asdict(people), indent=1, ensure_ascii=False) + "\n")
    return people


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the lists."""
    known: Readers = {"shards": path, "output": path}
    options = read_options(__doc__, arguments, known, required=tuple(known))
    people = write_lists(kept_videos(options["shards"]), options["output"])
    print(f"held out: {', '.join(people.held_out) or 'nobody'}")
    for name, trained in people.trained.items():
        print(f"{name}: {', '.join(trained)}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
