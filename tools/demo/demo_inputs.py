"""Prepares the inputs of the demonstration: portraits, speech, true videos, and the lists that generate.py reads.

    python -m tools.demo.demo_inputs shards=DIR source=DIR output=DIR

Held-out speakers come first. Portraits are frames of the raw videos, with their landmark files if the data has them.
Speech and true videos come from the shards. ``cases.json`` describes the videos for the page; ``batch.csv`` and
``long.*`` are inputs of generate.py.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from configs.data import DataConfig
from configs.options import Readers, path, read_options, run_script
from datamodules.clip_windows import Clip
from datamodules.datamodule import ShardDataModule
from encoders.protocols import FPS
from media import FrameReader, VideoWriter
from media.flac import encode_flac
from preparation.plan import file_of
from runtime.errors import UserError
from runtime.files import write_whole
from runtime.ownership import claim

EMOTIONS = ("happy", "angry", "sad")
SHOWN = "surprised"  # emotion where drive=expression
STILL = 5  # frames of a video without motion
COLUMNS = ("portrait", "speech", "output", "drive", "emotion.label", "emotion.level", "emotion.image",
           "emotion.video", "emotion.extend")  # fmt: skip


@dataclass(frozen=True)
class RequestedVideo:
    """One requested video, and its true video.

    Attributes:
        name: Name of both videos, without extension; its folder is the section of the page.
        speaker: Speaker.
        seen: Whether the speaker was part of the training data.
        words: Description for the page.
        row: Values of generate.py, by its columns.
        true: True video, or None.
    """

    name: str
    speaker: str
    seen: bool
    words: str
    row: dict[str, str]
    true: str | None = None


class DemoCase:
    """Writes the files of a clip (portrait, speech, true video).

    Args:
        data: Shards.
        source: Folder of the raw videos that the shards were prepared from.
        output: Output folder.
    """

    def __init__(self, data: ShardDataModule, source: Path, output: Path) -> None:
        self.data, self.source, self.output = data, source, output

    def portrait(self, clip: Clip, place: float = 0.0) -> str:
        """Writes the frame of the raw video at a share of the clip's length; returns its path below the output."""
        frame, number = self._frame(clip, place)
        path = self.output / "portraits" / f"{clip.key}{f'_{number}' if number else ''}.png"
        self._claim(path)
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        write_whole(path, buffer.getvalue())
        self._landmarks(clip, number, path, 1)
        return self._name(path)

    def still(self, clip: Clip, place: float) -> str:
        """Writes the same frame as a video without motion; returns its path below the output."""
        frame, number = self._frame(clip, place)
        path = self.output / "stills" / f"{clip.key}_{number}.mp4"
        self._claim(path)
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        with VideoWriter(path, size=(width, height), fps=FPS) as writer:
            for _ in range(STILL):
                writer.write(np.ascontiguousarray(frame[:height, :width]))
        self._landmarks(clip, number, path, STILL)
        return self._name(path)

    def speech(self, clip: Clip) -> str:
        """Writes the clip's sound; returns its path below the output."""
        path = self.output / "speech" / f"{clip.key}.flac"
        self._claim(path)
        write_whole(path, encode_flac(self.data.whole(clip, ["speech"])["speech"][0].numpy()))
        return self._name(path)

    def true(self, clip: Clip, name: str) -> str:
        """Writes the clip's frames as the network sees them, with sound; returns the path below the output."""
        batch = self.data.whole(clip, ["video", "speech"])
        frames, path = batch["video"][0].numpy(), self.output / "true" / f"{name}.mp4"
        self._claim(path)
        with VideoWriter(
            path, size=(frames.shape[2], frames.shape[1]), fps=FPS, sound=batch["speech"][0].numpy()
        ) as writer:
            for frame in frames:
                writer.write(frame)
        return self._name(path)

    def _frame(self, clip: Clip, place: float) -> tuple[np.ndarray, int]:
        """Returns a frame of the raw video, (H, W, 3) uint8, and its number in the clip."""
        meta = self.data.meta(clip)
        number = int(place * (clip.entry.frames - 1))
        start = float(meta["start"]) + number / FPS
        reader = FrameReader(self._raw(clip), start=start, end=start + 1 / FPS, fps=FPS)
        return next(iter(reader)), number

    def _raw(self, clip: Clip) -> Path:
        """Returns the raw video that a clip was cut from."""
        return self.source / file_of(str(self.data.meta(clip)["source"]))

    def _landmarks(self, clip: Clip, number: int, path: Path, frames: int) -> None:
        """Writes the row of the raw video's landmark file that belongs to a frame, as landmarks of its picture."""
        meta = self.data.meta(clip)
        sidecar = self._raw(clip).with_suffix(".csv")
        if self.data.index.encoders["landmarks"].name != "sidecar":
            return
        with sidecar.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file, skipinitialspace=True)
        row = dict(zip(head, rows[round(float(meta["start"]) * FPS) + number], strict=True))
        lines = [",".join(head)]
        for place in range(frames):
            row |= {"frame": str(place + 1), "timestamp": f"{place / FPS:.3f}"}
            lines.append(",".join(row[name] for name in head))
        write_whole(path.with_suffix(".csv"), ("\n".join(lines) + "\n"))

    def _claim(self, path: Path) -> None:
        """Lists a file, and the landmark file of its name, as this program's."""
        files = [path, path.with_suffix(".csv")]
        claim(self.output, map(self._name, files), f"output={self.output}")
        path.parent.mkdir(parents=True, exist_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()


def people(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Groups clips by speaker, both sorted by name."""
    found: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.key):
        found.setdefault(clip.entry.speaker, []).append(clip)
    return dict(sorted(found.items()))


def with_emotion(clips: Sequence[Clip], emotion: str) -> Clip | None:
    """Returns the clip with the strongest level of an emotion, or None."""
    shown = [clip for clip in clips if clip.entry.emotion == emotion]
    return max(shown, key=lambda clip: clip.entry.level or 0, default=None)


def known_level(known: Sequence[Clip], emotion: str, wanted: int) -> int:
    """Returns the level nearest to ``wanted`` that the training clips of an emotion have.

    Raises:
        UserError: If no training clip shows the emotion.
    """
    levels = {clip.entry.level or 1 for clip in known if clip.entry.emotion == emotion}
    if not levels:
        raise UserError(f"no training clip shows {emotion}; prepare clips of all emotions")
    return min(levels, key=lambda level: (abs(level - wanted), level))


def labelled_cases(case: DemoCase, unseen: dict[str, list[Clip]], known: list[Clip]) -> list[RequestedVideo]:
    """Cases of data with emotion labels: two unseen speakers with three emotions each, by label.

    Raises:
        UserError: If an emotion is missing.
    """
    asked = []
    for speaker, clips in list(unseen.items())[:2]:
        portrait = case.portrait(_required(clips, "neutral"))
        for emotion in EMOTIONS:
            clip = _required(clips, emotion)
            name, level = f"emotions/{speaker}_{emotion}", known_level(known, emotion, clip.entry.level or 1)
            row = _row(portrait, case.speech(clip), name, emotion, level)
            words = f"{emotion}, level {level}, requested by label"
            asked.append(RequestedVideo(name, speaker, False, words, row, case.true(clip, name)))
    speaker, clips = next(iter(unseen.items()))
    clip, portrait = _required(clips, EMOTIONS[0]), case.portrait(_required(clips, "neutral"))
    shown = {"emotion.label": SHOWN, "emotion.level": str(known_level(known, SHOWN, 3))}
    asked += _decoupling_videos(case, clip, portrait, shown)
    speaker, clips = list(unseen.items())[min(1, len(unseen) - 1)]
    source = with_emotion(known, EMOTIONS[0])
    if source is None:
        raise UserError(f"no training clip shows {EMOTIONS[0]}; prepare clips of all emotions")
    return [*asked, *_dicte(case, _required(clips, EMOTIONS[0]), case.portrait(_required(clips, "neutral")), source)]


def unlabelled_cases(case: DemoCase, unseen: dict[str, list[Clip]], known: list[Clip]) -> list[RequestedVideo]:
    """Cases of real videos without labels: up to two seen and two unseen speakers, and expressions of others."""
    asked = []
    seen = people(known)
    for group, others in ((list(seen.items())[:2], False), (list(unseen.items())[:2], True)):
        for speaker, (clip, *_) in group:
            name = f"{'unseen' if others else 'seen'}/{clip.key}"
            words = "the portrait's own expression"
            row = _row(case.portrait(clip), case.speech(clip), name)
            asked.append(RequestedVideo(name, speaker, not others, words, row, case.true(clip, name)))
    first, *rest = (clips[0] for clips in seen.values())
    face, sources = (next(iter(unseen.values()))[0] if unseen else first), (rest or [first])[:3]
    for source in sources:
        name = f"borrowed/{source.key}"
        row = {**_row(case.portrait(face), case.speech(face), name), "emotion.image": case.portrait(source, 0.5)}
        words = f"the expression of {source.entry.speaker}, from an image"
        asked.append(RequestedVideo(name, face.entry.speaker, not unseen, words, row))
    asked += _decoupling_videos(case, first, case.portrait(first), {"emotion.image": case.portrait(sources[0], 0.5)})
    return [*asked, *_dicte(case, first, case.portrait(first), sources[0])]


def _decoupling_videos(case: DemoCase, clip: Clip, portrait: str, emotion: dict[str, str]) -> list[RequestedVideo]:
    """Cases of Figure 3: lips only, and expression only."""
    speech, speaker, seen = case.speech(clip), clip.entry.speaker, clip.entry.split == "train"
    lips = {**_row(portrait, speech, "drive/lips"), "drive": "lips"}
    expression = {**_row(portrait, speech, "drive/expression"), "drive": "expression", **emotion}
    return [
        RequestedVideo("drive/lips", speaker, seen, "drive=lips", lips),
        RequestedVideo("drive/expression", speaker, seen, "drive=expression", expression),
    ]


def _dicte(case: DemoCase, clip: Clip, portrait: str, source: Clip) -> list[RequestedVideo]:
    """Cases of Figure 4: one expression, once as the condition of Di-CTE and once constant over all frames."""
    speech, speaker, seen = case.speech(clip), clip.entry.speaker, clip.entry.split == "train"
    image, still = case.portrait(source, 0.5), case.still(source, 0.5)
    moving = {**_row(portrait, speech, "dicte/with"), "emotion.image": image}
    held = {**_row(portrait, speech, "dicte/without"), "emotion.video": still, "emotion.extend": "hold"}
    return [
        RequestedVideo("dicte/with", speaker, seen, "Di-CTE makes a sequence of it", moving),
        RequestedVideo("dicte/without", speaker, seen, "the same expression in every frame", held),
    ]


def long_case(case: DemoCase, clips: list[Clip]) -> RequestedVideo:
    """Case of the longest clip, which is sampled in several windows."""
    clip = max(clips, key=lambda clip: clip.entry.frames)
    row = _row(case.portrait(clip), case.speech(clip), "long")
    words = f"{clip.entry.frames / FPS:.1f} s of speech, its own expression"
    return RequestedVideo("long", clip.entry.speaker, clip.entry.split == "train", words, row, case.true(clip, "long"))


def _row(portrait: str, speech: str, name: str, label: str = "", level: int | None = None) -> dict[str, str]:
    row = {"portrait": portrait, "speech": speech, "output": f"{name}.mp4"}
    return row | ({"emotion.label": label, "emotion.level": str(level)} if label else {})


def _required(clips: Sequence[Clip], emotion: str) -> Clip:
    clip = with_emotion(clips, emotion)
    if clip is None:
        raise UserError(f"{clips[0].entry.speaker}: has no {emotion} clip; prepare clips of all emotions")
    return clip


def write_cases(shards: str, source: Path, output: Path) -> list[RequestedVideo]:
    """Writes all inputs of generate.py and of the page.

    Raises:
        UserError: If the shards have too few clips.
        ShardError, MediaError: If the shards or the raw videos cannot be read.
    """
    data = ShardDataModule(DataConfig(root=shards, workers=0, min_frames=1))
    data.setup()
    known, held_out = list(data.clips["train"]), [*data.clips["test"], *data.clips["val"]]
    if not known:
        raise UserError(f"{shards}: has no training clip; prepare clips of split train")
    unseen = people(data.clips["test"]) | people(data.clips["val"])
    case = DemoCase(data, source, output)
    labelled = bool(unseen) and any(clip.entry.emotion for clip in known)
    asked = (labelled_cases if labelled else unlabelled_cases)(case, unseen, known)
    neutral = [clip for clip in held_out if clip.entry.emotion in (None, "neutral")]
    asked.append(long_case(case, neutral or held_out or known))
    rows = io.StringIO()
    writer = csv.DictWriter(rows, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.row for one in asked[:-1])
    long = ["long.csv", *(f"long{Path(asked[-1].row[name]).suffix}" for name in ("portrait", "speech"))]
    claim(output, ["batch.csv", "cases.json", *long], f"output={output}")
    write_whole(output / "batch.csv", rows.getvalue())
    # Fixed names, so that the commands of the demonstration do not depend on the data.
    for name in ("portrait", "speech"):
        _copy(output / asked[-1].row[name], output / f"long{Path(asked[-1].row[name]).suffix}")
    content: dict[str, Any] = {"asked": [asdict(one) for one in asked], "unseen": sorted(unseen)}
    content |= {split: len(clips) for split, clips in data.clips.items()}
    write_whole(output / "cases.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return asked


def _copy(path: Path, target: Path) -> None:
    for ending in (path.suffix, ".csv"):
        if path.with_suffix(ending).exists():
            write_whole(target.with_suffix(ending), path.with_suffix(ending).read_bytes())


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the inputs.

    Raises:
        UserError: If the data has too few clips.
    """
    known: Readers = {"shards": str, "source": path, "output": path}
    options = read_options(__doc__, arguments, known, required=tuple(known))
    asked = write_cases(**options)
    people_asked = len({one.speaker for one in asked})
    print(f"{len(asked)} videos of {people_asked} people will be generated: {options['output'] / 'batch.csv'}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
