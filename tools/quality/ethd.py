"""Measures how well ETHD reproduces a clip from its earliest portrait and its sound: pixels, face and motion.

    python -m tools.quality.ethd RUN SHARDS [split=train] [steps=25] [seed=0] [clips=1] [sheets=FOLDER]
                                 [lips=2] [expression=2]

Two videos are generated for every clip as by generate.py, with the lips that V-AID predicts. ``voice`` uses expressions
sampled by V-AID; ``own`` uses the clip's own expression in every frame. Prints JSON. ``sheets`` writes a picture for
each clip with rows for the truth, ``voice`` and ``own``. ``lips`` and ``expression`` are scales of guidance, by
default those of the run. The shards must contain video (``store_video=all``) of real faces, because MediaPipe has to
detect them.

Shapes: F frames, S side of the frames.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from configs.data import DataConfig
from configs.fields import constraints
from configs.generation import GuidanceConfig
from configs.options import Readers, count, path, read_options, run_script
from datamodules.clip_windows import Clip, ClipBatch
from datamodules.datamodule import ShardDataModule
from encoders.factory import build_as
from encoders.landmarks.face_landmarker import BLENDSHAPES
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.motion.blendshapes import EXPRESSION_SHAPES
from lightning_modules.checkpoints import check_encoders
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.export import is_export, load_export
from lightning_modules.ethd.guidance import guidance_of
from lightning_modules.ethd.held_vaid import vaid_of_run
from lightning_modules.ethd.sampler import Sampler
from lightning_modules.vaid.network import VAID
from runtime.ownership import claim

FIELDS = ["audio", "expression", "latent", "boxes", "portraits", "video"]
JAW = BLENDSHAPES.index("jawOpen")
UPPER_FACE = [BLENDSHAPES.index(name) for name in EXPRESSION_SHAPES if not name.startswith("mouth")]
COLUMNS = 10  # frames on a contact sheet
LIMITS = constraints(GuidanceConfig)


@dataclass(frozen=True)
class VideoComparison:
    """Comparison of a generated video with the true one.

    Attributes:
        psnr: PSNR over all pixels, dB.
        faces: Share of frames in which MediaPipe finds a face.
        jaw: Correlation of generated and true jawOpen over frames with a face in both videos; None if there are fewer
            than two, or the jaw does not move.
        upper_face: Mean absolute error of the blendshapes outside the mouth, over the same frames; None without one.
    """

    psnr: float
    faces: float
    jaw: float | None
    upper_face: float | None


@dataclass(frozen=True)
class QualityRun:
    """A trained ETHD that renders clips of shards.

    Attributes:
        sampler: Sampler of the network.
        vaid: V-AID that the network was trained with.
        steps: Number of DDIM steps; None for the training's.
    """

    sampler: Sampler
    vaid: VAID
    steps: int | None

    @classmethod
    def load(cls, run: str | Path, data: ShardDataModule, steps: int | None = None) -> QualityRun:
        """Loads the averaged weights of a run, or an export, on the GPU if there is one.

        Raises:
            CheckpointError: If the run or its V-AID is missing, damaged, or of other encoders than the data.
            WrongWeights: If the export is damaged.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if is_export(Path(run)):
            exported = load_export(run)
            check_encoders(exported.info.encoders, data.index.encoders, run)
            ethd, info, vaid = exported.ethd, exported.info, exported.vaid.to(device)
        else:
            ethd, info = load_ethd(run)
            vaid = vaid_of_run(run).load(data.index.encoders).to(device)
        codec = build_as("codec", info.encoders["codec"], str(device))
        return cls(Sampler(ethd, info, codec, device), vaid, steps)

    def frames(
        self,
        batch: ClipBatch,
        seed: int,
        *,
        e_cond: Tensor | None = None,
        e_v: Tensor | None = None,
        guidance: GuidanceConfig | None = None,
    ) -> Tensor:
        """Renders a clip from its reference frame and sound as (F, S, S, 3) uint8; see ``Sampler.render``."""
        made = self.sampler.render(
            self.vaid, batch, e_cond=e_cond, e_v=e_v, seed=seed, steps=self.steps, guidance=guidance
        )
        return torch.from_numpy(made)


def compare(made: Tensor, true: Tensor, detector: MediaPipeDetector) -> VideoComparison:
    """Compares a video with the true one, both (F, S, S, 3) uint8. Faces are detected in each frame independently."""
    faces = [[detector.detect(frame) for frame in video.numpy()] for video in (made, true)]
    both = [i for i, (a, b) in enumerate(zip(*faces, strict=True)) if a and b]
    share = sum(bool(found) for found in faces[0]) / len(made)
    if not both:
        return VideoComparison(psnr(made, true), share, None, None)
    scores_made, scores_true = (np.stack([np.asarray(found[i][0].blendshapes) for i in both]) for found in faces)
    moves = min(scores[:, JAW].std() for scores in (scores_made, scores_true)) > 0
    jaw = float(np.corrcoef(scores_made[:, JAW], scores_true[:, JAW])[0, 1]) if moves else None
    return VideoComparison(psnr(made, true), share, jaw, float(np.abs(scores_made - scores_true)[:, UPPER_FACE].mean()))


def psnr(made: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 videos of one shape, over all pixels."""
    error = (made.float() - true.float()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def contact_sheet(videos: Sequence[Tensor], path: Path) -> None:
    """Writes evenly spaced frames of (F, S, S, 3) videos, one row each."""
    places = np.linspace(0, len(videos[0]) - 1, min(COLUMNS, len(videos[0]))).round().astype(int)
    rows = [np.concatenate(list(video[places].numpy()), axis=1) for video in videos]
    claim(path.parent, [path.name], f"sheets={path.parent}")
    Image.fromarray(np.concatenate(rows)).save(path)


def clip_report(
    run: QualityRun, data: ShardDataModule, clip: Clip, seed: int, sheets: Path | None, guidance: GuidanceConfig
) -> dict[str, object]:
    """Returns all numbers of one clip; the codec's round trip and its repeated first frame bound the scale."""
    batch = data.whole(clip, FIELDS)
    true = batch["video"][0]
    videos = {
        "voice": run.frames(batch, seed, guidance=guidance),
        "own": run.frames(batch, seed, e_v=batch["expression"], guidance=guidance),
    }
    if sheets is not None:
        contact_sheet([true, *videos.values()], sheets / f"{clip.key}.png")
    coded = run.sampler.codec.decode(batch["latent"][0].float()).permute(0, 2, 3, 1)
    detector = MediaPipeDetector()
    report: dict[str, object] = {
        "frames": len(true),
        "psnr_first_frame": psnr(true[:1].expand_as(true), true),
        "codec": asdict(compare(coded, true, detector)),
    }
    return report | {name: asdict(compare(made, true, detector)) for name, made in videos.items()}


def report(run: str, shards: str, **options: Any) -> dict[str, object]:
    """Returns the numbers of some clips; for the options see the module docstring."""
    data = ShardDataModule(DataConfig(root=shards, workers=0))
    data.setup()
    opened = QualityRun.load(run, data, options.get("steps"))
    guidance = GuidanceConfig(lips=options.get("lips"), expression=options.get("expression"))
    guidance_of(guidance, opened.sampler.info.config)
    clips = data.clips[options.get("split", "train")][: options.get("clips", 1)]
    sheets, seed = options.get("sheets"), options.get("seed", 0)
    return {clip.key: clip_report(opened, data, clip, seed, sheets, guidance) for clip in clips}


def of_key(key: str) -> Any:
    """Parser of a number within the limits of a key of ``guidance``."""

    def read(value: str) -> float:
        number = float(value)
        if not LIMITS[key].holds(number):
            raise ValueError(f"expected {LIMITS[key].expected}")
        return number

    return read


if __name__ == "__main__":
    known: Readers = {
        "split": str,
        "steps": count,
        "seed": int,
        "clips": count,
        "sheets": path,
        "lips": of_key("lips"),
        "expression": of_key("expression"),
    }
    places = ("run", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], known, places)), indent=1)))
