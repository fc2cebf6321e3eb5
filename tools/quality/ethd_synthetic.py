"""What ETHD shows of unseen synthetic people: lips that follow the sound, and the emotion that was asked for.

    python -m tools.quality.ethd_synthetic RUN SHARDS [frames=41] [steps=25] [seed=0] [sheets=FOLDER]

Of every held-out person one neutral clip gives portrait and sound, and each of the eight emotions is asked for with the
expression of somebody else. What a video shows is read off its pixels by what is known of the person's true videos and
of nothing generated: linear readers of the mouth's pixels, for the lip opening, and of the face's outside the lips, for
the emotion. Both readers are also held against true clips they have not seen. Prints JSON;
with ``sheets``, writes a picture for each person, one emotion a row.

Shapes: F frames, S side of the frames.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.data import DataConfig
from configs.options import Readers, count, read_options, run_script
from datamodules.clip_windows import Clip
from datamodules.datamodule import ShardDataModule
from datamodules.order import seed_of
from datamodules.splits.clip_names import EMOTIONS
from tools.quality.ethd import FIELDS, QualityRun, contact_sheet

HELD_OUT = ("val", "test")
RIDGE = 1e-3  # in units of the pixels' variance


@dataclass(frozen=True)
class Person:
    """A held-out person's true videos.

    Attributes:
        clips: of this person.
        videos: (F, S, S, 3) float32 in [0, 1], one for each clip.
        opening: (F,) true lip opening, one for each clip.
        lips: (S, S) bool, the largest lip box of the person, and a margin.
        face: (S, S) bool, the largest face box without it.
    """

    clips: list[Clip]
    videos: list[Tensor]
    opening: list[Tensor]
    lips: Tensor
    face: Tensor


def read_person(data: ShardDataModule, clips: list[Clip]) -> Person:
    """Reads a person's clips."""
    batches = [data.whole(clip, ["video", "boxes", "factors"]) for clip in clips]
    videos = [batch["video"][0].float() / 255 for batch in batches]
    boxes = torch.cat([batch["boxes"][0] for batch in batches])
    lips, face = (inside(boxes[:, which], videos[0].shape[1]) for which in (0, 1))
    return Person(clips, videos, [batch["factors"][0, :, 0] for batch in batches], lips, face & ~lips)


def inside(boxes: Tensor, side: int) -> Tensor:
    """(F, 4) boxes -> (S, S) bool, True inside any of them."""
    left, top = boxes[:, :2].amin(0).floor().int().tolist()
    right, bottom = boxes[:, 2:].amax(0).ceil().int().tolist()
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[max(0, top) : bottom, max(0, left) : right] = True
    return mask


class Reader:
    """Numbers from some of a video's pixels, by ridge regression on one person's true videos.

    Args:
        videos: (F, S, S, 3) each.
        targets: (F, K) each.
        region: (S, S) bool, which pixels.
    """

    def __init__(self, videos: Sequence[Tensor], targets: Sequence[Tensor], region: Tensor) -> None:
        self.region = region
        x = torch.cat([self._pixels(video) for video in videos])
        y = torch.cat(list(targets)).double()
        self.centre, self.level = x.mean(0), y.mean(0)
        x, y = x - self.centre, y - self.level
        penalty = RIDGE * x.var() * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        self.weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y)

    def __call__(self, video: Tensor) -> Tensor:
        """(F, S, S, 3) in [0, 1] -> (F, K)."""
        return (self._pixels(video) - self.centre) @ self.weight + self.level

    def _pixels(self, video: Tensor) -> Tensor:
        """(F, D): means of 2 x 2 pixels, those outside the region left out."""
        kept = (video * self.region[..., None]).permute(0, 3, 1, 2).double()
        halved = F.avg_pool2d(kept, 2).permute(0, 2, 3, 1)
        return halved[:, F.max_pool2d(self.region[None].float(), 2)[0].bool()].flatten(1)


def lip_reader(person: Person, without: int) -> Reader:
    """Reads the lip opening, (F, 1), off the mouth; one clip is left out."""
    known = [i for i in range(len(person.clips)) if i != without]
    return Reader([person.videos[i] for i in known], [person.opening[i][:, None] for i in known], person.lips)


def emotion_reader(person: Person, without: int) -> Reader:
    """Reads a score for each of ``EMOTIONS``, (F, 8), off the face outside the lips; one clip is left out."""
    known = [i for i in range(len(person.clips)) if i != without]
    one_hot = [
        F.one_hot(torch.full((len(person.videos[i]),), EMOTIONS.index(str(person.clips[i].entry.emotion))), 8)
        for i in known
    ]
    return Reader([person.videos[i] for i in known], one_hot, person.face)


def emotion_in(reader: Reader, video: Tensor) -> str:
    """The emotion with the highest mean score in a video."""
    return EMOTIONS[int(reader(video).mean(0).argmax())]


def source(clips: list[Clip], speaker: str, emotion: str) -> Clip:
    """A clip of somebody else with an emotion, at its strongest."""
    others = [clip for clip in clips if clip.entry.speaker != speaker and clip.entry.emotion == emotion]
    strongest = max(clip.entry.level or 0 for clip in others)
    others = [clip for clip in others if (clip.entry.level or 0) == strongest]
    return others[seed_of("source", speaker, emotion) % len(others)]


def person_report(
    run: QualityRun,
    data: ShardDataModule,
    person: Person,
    others: list[Clip],
    frames: int,
    seed: int,
    sheets: Path | None,
) -> dict[str, object]:
    """What is asked of one person and what comes."""
    speaker = person.clips[0].entry.speaker
    base = next(i for i, clip in enumerate(person.clips) if clip.entry.emotion == "neutral")
    batch = data.whole(person.clips[base], FIELDS, frames)
    lip, face, opening = lip_reader(person, base), emotion_reader(person, base), person.opening[base][:frames]
    shown, lips, videos = {}, {}, [batch["video"][0]]
    for emotion in EMOTIONS:
        given = data.whole(source(others, speaker, emotion), ["expression", "portraits"])
        made = run.frames(batch, seed, e_cond=given["reference_expression"])
        videos.append(made)
        shown[emotion] = emotion_in(face, made.float() / 255)
        lips[emotion] = correlation(lip(made.float() / 255)[:, 0], opening)
    if sheets is not None:
        contact_sheet(videos, sheets / f"{speaker}.png")
    true = [emotion_in(emotion_reader(person, i), video) for i, video in enumerate(person.videos)]
    return {
        "shown": shown,
        "lips": lips,
        "emotion": mean(asked == seen for asked, seen in shown.items()),
        "emotion_of_true_clips": mean(
            clip.entry.emotion == seen for clip, seen in zip(person.clips, true, strict=True)
        ),
        "lips_neutral": lips["neutral"],
        "lips_changed": mean(value for emotion, value in lips.items() if emotion != "neutral"),
        "lips_of_true_clip": correlation(lip(person.videos[base][:frames])[:, 0], opening),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's."""
    return float(np.corrcoef(a.double(), b.double())[0, 1])


def mean(values: object) -> float:
    """Arithmetic mean."""
    return float(np.mean([float(value) for value in values]))  # type: ignore[attr-defined]


def report(run: str, shards: str, **options: str) -> dict[str, object]:
    """The numbers of all held-out people; see the top of the file."""
    data = ShardDataModule(DataConfig(name="synthetic", root=shards, workers=0))
    data.setup()
    opened = QualityRun.load(run, data, int(options["steps"]) if "steps" in options else None)
    sheets = Path(options["sheets"]) if "sheets" in options else None
    others = [clip for split in HELD_OUT for clip in data.clips[split]]
    speakers = sorted({clip.entry.speaker for clip in others})
    people = {
        speaker: person_report(
            opened,
            data,
            read_person(data, [clip for clip in others if clip.entry.speaker == speaker]),
            others,
            int(options.get("frames", 41)),
            int(options.get("seed", 0)),
            sheets,
        )
        for speaker in speakers
    }
    names = ("emotion", "emotion_of_true_clips", "lips_neutral", "lips_changed", "lips_of_true_clip")
    return people | {name: mean(person[name] for person in people.values()) for name in names}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    known: Readers = {"frames": count, "steps": count, "seed": int, "sheets": str}
    places = ("run", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], known, places)), indent=1)))
