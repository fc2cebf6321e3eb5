"""Measures ETHD on held-out synthetic speakers: whether lips follow the sound, and which emotion the face shows.

    python -m tools.quality.ethd_synthetic RUN SHARDS [frames=41] [steps=25] [seed=0] [sheets=FOLDER]

For every held-out speaker a neutral clip provides portrait and sound. The eight emotions are requested with expressions
of other speakers. What a generated video shows is read from its pixels by linear readers that are fitted to the
speaker's true videos only: one reads the lip opening from the mouth's pixels, one the emotion from those of the face
outside the lips. Both are also tested on true clips that they were not fitted to. ``emotion_relative`` is the share of
right emotions divided by that of true clips, if any of these is right.

The neutral video is also compared with the true one: ``psnr`` and ``ssim`` over whole frames, ``sharpness`` and
``speckle`` inside the face (``picture_scores``). ``own_psnr`` etc. are those of a video with the true clip's own
expression, which also has the pose of the head if the motion encoder measures it. Speech alone does not determine the
pose: the mean of all possible videos has the best PSNR and is blurred.

RUN is a run directory, a checkpoint or an export. Prints JSON. ``sheets`` writes a picture for each speaker, with one
row per emotion.

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
from configs.generation import GuidanceConfig
from configs.options import Readers, count, read_options, run_script
from datamodules.clip_windows import Clip, ClipBatch
from datamodules.datamodule import ShardDataModule
from datamodules.order import seed_of
from datamodules.splits.clip_names import EMOTIONS
from tools.quality.ethd import FIELDS, QualityRun, contact_sheet, psnr

HELD_OUT = ("val", "test")
FRAMES = 41  # of a generated video
RIDGE = 1e-3  # in units of the pixels' variance
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
GREY = torch.tensor([0.299, 0.587, 0.114])  # luma of BT.601
SCORES = ("emotion", "emotion_of_true_clips", "lips_neutral", "lips_changed", "lips_of_true_clip",
          "psnr", "ssim", "sharpness", "speckle", "own_psnr", "own_ssim", "own_sharpness", "own_speckle")  # fmt: skip


@dataclass(frozen=True)
class Person:
    """True videos of a held-out speaker.

    Attributes:
        clips: Clips of the speaker.
        videos: (F, S, S, 3) float32 in [0, 1], one for each clip.
        opening: (F,) true lip opening, one for each clip.
        lips: (S, S) bool, bounding box of all lip boxes.
        face: (S, S) bool, bounding box of all face boxes without ``lips``.
    """

    clips: list[Clip]
    videos: list[Tensor]
    opening: list[Tensor]
    lips: Tensor
    face: Tensor


def read_person(data: ShardDataModule, clips: list[Clip]) -> Person:
    """Reads the clips of a speaker."""
    batches = [data.whole(clip, ["video", "boxes", "factors"]) for clip in clips]
    videos = [batch["video"][0].float() / 255 for batch in batches]
    boxes = torch.cat([batch["boxes"][0] for batch in batches])
    lips, face = (inside(boxes[:, which], videos[0].shape[1]) for which in (0, 1))
    return Person(clips, videos, [batch["factors"][0, :, 0] for batch in batches], lips, face & ~lips)


def inside(boxes: Tensor, side: int) -> Tensor:
    """Converts (F, 4) boxes to a (S, S) bool mask of their bounding box."""
    left, top = boxes[:, :2].amin(0).floor().int().tolist()
    right, bottom = boxes[:, 2:].amax(0).ceil().int().tolist()
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[max(0, top) : bottom, max(0, left) : right] = True
    return mask


class Reader:
    """Linear reader: predicts numbers from a video's pixels, by ridge regression on one speaker's true videos.

    Args:
        videos: Videos of shape (F, S, S, 3).
        targets: Targets of shape (F, K).
        region: (S, S) bool mask of the pixels to use.
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
        """Maps a (F, S, S, 3) video in [0, 1] to (F, K) predictions."""
        return (self._pixels(video) - self.centre) @ self.weight + self.level

    def _pixels(self, video: Tensor) -> Tensor:
        """Returns (F, D) means of 2 x 2 pixels inside the region."""
        kept = (video * self.region[..., None]).permute(0, 3, 1, 2).double()
        halved = F.avg_pool2d(kept, 2).permute(0, 2, 3, 1)
        return halved[:, F.max_pool2d(self.region[None].float(), 2)[0].bool()].flatten(1)


def lip_reader(person: Person, without: int) -> Reader:
    """Fits a reader of the lip opening, (F, 1), to the mouth's pixels; one clip is left out."""
    known = [i for i in range(len(person.clips)) if i != without]
    return Reader([person.videos[i] for i in known], [person.opening[i][:, None] for i in known], person.lips)


def emotion_reader(person: Person, without: int) -> Reader:
    """Fits a reader of ``EMOTIONS`` scores, (F, 8), to the face outside the lips; one clip is left out."""
    known = [i for i in range(len(person.clips)) if i != without]
    one_hot = [
        F.one_hot(torch.full((len(person.videos[i]),), EMOTIONS.index(str(person.clips[i].entry.emotion))), 8)
        for i in known
    ]
    return Reader([person.videos[i] for i in known], one_hot, person.face)


def emotion_in(reader: Reader, video: Tensor) -> str:
    """Returns the emotion with the highest mean score in a video."""
    return EMOTIONS[int(reader(video).mean(0).argmax())]


def source(clips: list[Clip], speaker: str, emotion: str) -> Clip:
    """Returns a clip of another speaker with the strongest level of an emotion."""
    others = [clip for clip in clips if clip.entry.speaker != speaker and clip.entry.emotion == emotion]
    strongest = max(clip.entry.level or 0 for clip in others)
    others = [clip for clip in others if (clip.entry.level or 0) == strongest]
    return others[seed_of("source", speaker, emotion) % len(others)]


@dataclass(frozen=True)
class MeasuredPerson:
    """A held-out speaker with the readers that measure generated videos.

    Attributes:
        person: True videos of the speaker.
        base: Index of the neutral clip that provides portrait and sound.
        batch: That clip.
        lip: Reader of the lip opening.
        face: Reader of the emotion.
        opening: (F,) true lip opening of the clip.
        sources: Emotion -> (1, d_e) expression of another speaker.
    """

    person: Person
    base: int
    batch: ClipBatch
    lip: Reader
    face: Reader
    opening: Tensor
    sources: dict[str, Tensor]


def measured_person(data: ShardDataModule, speaker: str, others: list[Clip], frames: int) -> MeasuredPerson:
    """Reads the clips of a speaker among held-out clips, and fits the readers."""
    person = read_person(data, [clip for clip in others if clip.entry.speaker == speaker])
    base = next(i for i, clip in enumerate(person.clips) if clip.entry.emotion == "neutral")
    given = {
        emotion: data.whole(source(others, speaker, emotion), ["expression", "portraits"])["reference_expression"]
        for emotion in EMOTIONS
    }
    return MeasuredPerson(
        person,
        base,
        data.whole(person.clips[base], FIELDS, frames),
        lip_reader(person, base),
        emotion_reader(person, base),
        person.opening[base][:frames],
        given,
    )


@dataclass(frozen=True)
class ShownEmotions:
    """What the videos of one speaker show, one for each of the eight emotions that were asked for.

    Attributes:
        shown: Emotion asked for -> emotion that the video shows.
        lips: Emotion asked for -> correlation of the lip opening with that of the true video.
        videos: Generated videos (F, S, S, 3) uint8, in the order of ``EMOTIONS``.
    """

    shown: dict[str, str]
    lips: dict[str, float]
    videos: list[Tensor]

    def scores(self) -> dict[str, float]:
        """Share of videos that show the emotion asked for, and correlations of the lips."""
        return {
            "emotion": mean(asked == seen for asked, seen in self.shown.items()),
            "lips_neutral": self.lips["neutral"],
            "lips_changed": mean(value for emotion, value in self.lips.items() if emotion != "neutral"),
        }


def shown_emotions(
    run: QualityRun, measured: MeasuredPerson, seed: int, guidance: GuidanceConfig | None = None
) -> ShownEmotions:
    """Generates a video for each emotion, and reads what it shows."""
    shown, lips, videos = {}, {}, []
    for emotion in EMOTIONS:
        made = run.frames(measured.batch, seed, e_cond=measured.sources[emotion], guidance=guidance)
        videos.append(made)
        shown[emotion] = emotion_in(measured.face, made.float() / 255)
        lips[emotion] = correlation(measured.lip(made.float() / 255)[:, 0], measured.opening)
    return ShownEmotions(shown, lips, videos)


def picture_scores(made: Tensor, true: Tensor, face: Tensor) -> dict[str, float]:
    """Compares a video with its true one.

    Args:
        made: Generated video (F, S, S, 3) uint8.
        true: True video of the same shape.
        face: (S, S) bool mask of the face.

    Returns:
        ``psnr``: PSNR over all pixels, dB. ``ssim``: mean SSIM of the frames. ``sharpness``: variance of the Laplacian
        of the grey values inside the face, relative to the true video; 1 is as sharp. ``speckle``: the same over the
        smooth half of the face, the pixels whose 3 x 3 neighbourhood has the smallest Laplacians in the true frame.
    """
    from torchmetrics.functional import image  # late: it takes seconds to import

    one, two = (video.permute(0, 3, 1, 2).double() / 255 for video in (made, true))
    ssim = image.structural_similarity_index_measure(one, two, data_range=1.0)
    ours, theirs = (laplacian(video)[:, face] for video in (made, true))
    edges = F.max_pool2d(laplacian(true).abs()[:, None], 3, stride=1, padding=1)[:, 0][:, face]
    smooth = edges <= edges.median(1, keepdim=True).values
    return {
        "psnr": psnr(made, true),
        "ssim": float(ssim),  # type: ignore[arg-type]
        "sharpness": float(ours.var(1).mean() / theirs.var(1).mean()),
        "speckle": _variance(ours, smooth) / _variance(theirs, smooth),
    }


def laplacian(video: Tensor) -> Tensor:
    """Laplacian of the grey values in [0, 1] of a (F, S, S, 3) uint8 video, (F, S, S); edges are repeated."""
    grey = (video.float() / 255) @ GREY
    return F.conv2d(F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate"), LAPLACIAN[None, None])[:, 0]


def _variance(values: Tensor, chosen: Tensor) -> float:
    """Mean over frames of the variance of the chosen values; both are (F, P)."""
    return mean(row[kept].var() for row, kept in zip(values, chosen, strict=True))


def person_report(run: QualityRun, measured: MeasuredPerson, seed: int, sheets: Path | None) -> dict[str, object]:
    """Returns the numbers of one speaker."""
    made, person, base = shown_emotions(run, measured, seed), measured.person, measured.base
    if sheets is not None:
        contact_sheet([measured.batch["video"][0], *made.videos], sheets / f"{person.clips[0].entry.speaker}.png")
    true = [emotion_in(emotion_reader(person, i), video) for i, video in enumerate(person.videos)]
    neutral, region = made.videos[EMOTIONS.index("neutral")], person.face | person.lips
    own = picture_scores(
        run.frames(measured.batch, seed, e_v=measured.batch["expression"]), measured.batch["video"][0], region
    )
    return {
        "shown": made.shown,
        "lips": made.lips,
        **made.scores(),
        **picture_scores(neutral, measured.batch["video"][0], region),
        **{f"own_{name}": value for name, value in own.items()},
        "emotion_of_true_clips": mean(
            clip.entry.emotion == seen for clip, seen in zip(person.clips, true, strict=True)
        ),
        "lips_of_true_clip": correlation(
            measured.lip(person.videos[base][: len(measured.opening)])[:, 0], measured.opening
        ),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation."""
    return float(np.corrcoef(a.double(), b.double())[0, 1])


def mean(values: object) -> float:
    """Arithmetic mean."""
    return float(np.mean([float(value) for value in values]))  # type: ignore[attr-defined]


def open_run(run: str, shards: str, steps: int | None) -> tuple[ShardDataModule, QualityRun, list[Clip]]:
    """Returns the data, the run and the clips of held-out speakers."""
    data = ShardDataModule(DataConfig(name="synthetic", root=shards, workers=0))
    data.setup()
    others = [clip for split in HELD_OUT for clip in data.clips[split]]
    return data, QualityRun.load(run, data, steps), others


def speakers_of(clips: list[Clip]) -> list[str]:
    """Names of the speakers, sorted."""
    return sorted({clip.entry.speaker for clip in clips})


def report(run: str, shards: str, **options: str) -> dict[str, object]:
    """Returns the numbers of all held-out speakers; for the options see the module docstring."""
    data, opened, others = open_run(run, shards, int(options["steps"]) if "steps" in options else None)
    sheets = Path(options["sheets"]) if "sheets" in options else None
    frames, seed = int(options.get("frames", FRAMES)), int(options.get("seed", 0))
    people = {
        speaker: person_report(opened, measured_person(data, speaker, others, frames), seed, sheets)
        for speaker in speakers_of(others)
    }
    means = {name: mean(person[name] for person in people.values()) for name in SCORES}
    true = means["emotion_of_true_clips"]
    relative = {"emotion_relative": means["emotion"] / true} if true else {}  # few or short clips fit no reader
    return {**people, **means, **relative}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    known: Readers = {"frames": count, "steps": count, "seed": int, "sheets": str}
    places = ("run", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], known, places)), indent=1)))
