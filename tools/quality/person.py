"""Measures how well ETHD reproduces held-out video of a person it is fine-tuned on.

    python -m tools.quality.person RUN SHARDS [split=test] [frames=125] [steps=25] [seed=0] [sheets=FOLDER]

Run it before and after the fine-tuning, with the RUN that is the initial one and the RUN that results. Every clip of
``split`` is generated as by generate.py from its earliest portrait and its sound. Prints JSON: PSNR over all pixels and
inside the face's bounding box, with the repeated first frame and the codec's round trip for comparison; and the
correlation of the lips' main movement with the truth. That movement, the first principal component of the lip latents,
is read from the mouth's pixels by a linear reader fitted to the true training clips. The shards must hold video
(``store_video=all``). ``sheets`` writes a picture for each clip, the truth above the generated video.

Shapes: F frames, S side of the frames.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from configs.data import DataConfig
from configs.options import Readers, chosen, count, read_options, run_script
from datamodules.clip_windows import Clip
from datamodules.datamodule import ShardDataModule
from tools.quality.ethd import FIELDS, QualityRun, contact_sheet, psnr
from tools.quality.ethd_synthetic import Reader, correlation, inside, mean

FITTED_FRAMES = 2000  # frames of the training clips that the reader is fitted to, at most


def main_movement(lips: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and first principal direction, each (d_l,), of (F, d_l) lip latents."""
    centre = lips.double().mean(0)
    _, _, directions = torch.linalg.svd(lips.double() - centre, full_matrices=False)
    return centre, directions[0]


class Lips:
    """The main movement of a person's lips, in latents and in pixels.

    Args:
        data: Data of one person, with video.
        clips: Training clips.
    """

    def __init__(self, data: ShardDataModule, clips: list[Clip]) -> None:
        whole = [data.whole(clip, ["video", "boxes", "lip"]) for clip in clips]
        every = -(-sum(batch["lip"].shape[1] for batch in whole) // FITTED_FRAMES)
        boxes = torch.cat([batch["boxes"][0] for batch in whole])
        side = whole[0]["video"].shape[2]
        lips, self.face = (inside(boxes[:, which], side) for which in (0, 1))
        self.centre, self.direction = main_movement(torch.cat([batch["lip"][0] for batch in whole]))
        self.reader = Reader(
            [batch["video"][0, ::every].float() / 255 for batch in whole],
            [self.true(batch["lip"][0, ::every])[:, None] for batch in whole],
            lips,
        )

    def true(self, latents: Tensor) -> Tensor:
        """(F, d_l) lip latents -> (F,) movement."""
        return (latents.double() - self.centre) @ self.direction

    def shown(self, video: Tensor) -> Tensor:
        """(F, S, S, 3) uint8 video -> (F,) movement."""
        return self.reader(video.float() / 255)[:, 0]


def clip_report(
    run: QualityRun, data: ShardDataModule, lips: Lips, clip: Clip, frames: int, seed: int, sheets: Path | None
) -> dict[str, float]:
    """Returns the numbers of one clip."""
    batch = data.whole(clip, [*FIELDS, "lip"], frames)
    true, movement = batch["video"][0], lips.true(batch["lip"][0])
    made = run.frames(batch, seed)
    coded = run.sampler.codec.decode(batch["latent"][0].float()).permute(0, 2, 3, 1)
    if sheets is not None:
        contact_sheet([true, made], sheets / f"{clip.key.replace('/', '_')}.png")
    face = lips.face
    return {
        "psnr": psnr(made, true),
        "psnr_face": psnr(made[:, face], true[:, face]),
        "psnr_first_frame": psnr(true[:1].expand_as(true), true),
        "psnr_codec": psnr(coded, true),
        "lips": correlation(lips.shown(made), movement),
        "lips_of_true_clip": correlation(lips.shown(true), movement),
    }


def report(run: str, shards: str, **options: str) -> dict[str, object]:
    """Returns the numbers of all clips of a split, and their means; for the options see the module docstring."""
    data = ShardDataModule(DataConfig(root=shards, workers=0))
    data.setup()
    opened = QualityRun.load(run, data, int(options["steps"]) if "steps" in options else None)
    lips = Lips(data, list(data.clips["train"]))
    sheets = Path(options["sheets"]) if "sheets" in options else None
    frames, seed = int(options.get("frames", 125)), int(options.get("seed", 0))
    clips = {
        clip.key: clip_report(opened, data, lips, clip, frames, seed, sheets)
        for clip in data.clips[options.get("split", "test")]
    }
    names = next(iter(clips.values()), {})
    return {**clips, "mean": {name: mean(numbers[name] for numbers in clips.values()) for name in names}}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    known: Readers = {
        "split": chosen("train", "val", "test"), "frames": count, "steps": count, "seed": int, "sheets": str,
    }  # fmt: skip
    places = ("run", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], known, places)), indent=1)))
