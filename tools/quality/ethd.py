"""How well ETHD shows a clip from its first frame and its sound: the picture, the face in it, and how it moves.

    python -m tools.quality.ethd RUN SHARDS [split=train] [steps=25] [seed=0] [clips=1] [sheets=FOLDER]

Two videos are made of every clip, both with the lips V-AID hears: ``voice``, whose expression V-AID samples as well,
with the first frame's as its condition, and ``own``, whose expression is the clip's own. Prints JSON; with ``sheets``,
writes a picture for each clip: the truth above, ``voice`` and ``own`` below. The shards must hold video
(``store_video=all``) and be of real faces, which MediaPipe can find.

Shapes: F frames, C x h x w latents, S side of the frames.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from configs.data import DataConfig
from configs.options import Readers, count, read_options, run_script
from datamodules.datamodule import ShardDataModule
from datamodules.order import seed_of
from datamodules.windows import Clip, ClipBatch
from diffusion.ddim import seeded_noise
from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser
from encoders.factory import build_as
from encoders.landmarks.face_landmarker import BLENDSHAPES
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.motion.blendshapes import EXPRESSION_SHAPES
from encoders.protocols import LatentCodec
from lightning_modules.ethd.checkpoint import EthdCard, load_ethd, noise_schedule
from lightning_modules.ethd.network import Drive, Ethd
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.network import VAID

FIELDS = ["audio", "lip", "expression", "latent", "boxes", "portraits", "video"]
JAW = BLENDSHAPES.index("jawOpen")
UPPER_FACE = [BLENDSHAPES.index(name) for name in EXPRESSION_SHAPES if not name.startswith("mouth")]
COLUMNS = 10  # frames on a contact sheet


@dataclass(frozen=True)
class Shown:
    """How one generated video compares with the truth.

    Attributes:
        psnr: of all pixels together, dB.
        faces: share of the frames in which MediaPipe finds a face.
        jaw: correlation of the generated and the true jawOpen over frames with a face in both.
        upper_face: mean absolute error of the blendshapes that are not the mouth's, over the same frames.
    """

    psnr: float
    faces: float
    jaw: float
    upper_face: float


class Studio:
    """A trained ETHD with everything it needs to make a clip of some shards.

    Args:
        ethd: the network.
        card: what its checkpoint says.
        vaid: that drives it.
        codec: of its latents.
        steps: of DDIM.
    """

    def __init__(self, ethd: Ethd, card: EthdCard, vaid: VAID, codec: LatentCodec, steps: int) -> None:
        self.ethd, self.card, self.vaid, self.codec, self.steps = ethd, card, vaid, codec, steps
        self.schedule = noise_schedule(card.config)

    @torch.no_grad()
    def drive(self, batch: ClipBatch, e_dri: Tensor, e_cond: Tensor, audio: Tensor | None = None) -> Drive:
        """What drives a clip's face: the lips V-AID hears, and an expression.

        Args:
            batch: of one whole clip.
            e_dri: (1, F, d_e) standardised.
            e_cond: (1, d_e) standardised, for an ETHD without Di-CTE.
            audio: (1, F, L, D) of another clip; None for its own.
        """
        audio = batch["audio"].float() if audio is None else audio
        return Drive(
            boxes=batch["boxes"][:, 0],
            e_ref=self.vaid.expression_scale(batch["expression"][:, 0]),
            lip=self.vaid.lip(audio),
            e_dri=e_dri,
            e_cond=e_cond,
            audio=audio,
        )

    @torch.no_grad()
    def frames(self, batch: ClipBatch, drive: Drive, seed: int) -> Tensor:
        """(F, S, S, 3) uint8 from a clip's first frame and a drive."""
        latent = batch["latent"]
        reference = self.card.latents.reference(latent[:, 0])

        def predict(x: Tensor, t: Tensor, where: slice) -> Tensor:
            near = drive.window(where)
            denoise = VelocityDenoiser(lambda noisy, level: self.ethd(noisy, level, reference, near), self.schedule)
            return denoise(x, t)

        config = self.card.config
        assert config.overlap is not None
        noise = seeded_noise(tuple(latent.shape), seed)
        video = sample_long(predict, noise, self.schedule, self.steps, config.window, config.overlap)
        return self.codec.decode(self.card.latents.restored(video[0])).permute(0, 2, 3, 1)


def open_studio(run: str | Path, data: ShardDataModule, steps: int | None = None) -> Studio:
    """The averaged weights of a run and the V-AID it was trained with.

    Raises:
        CheckpointError: when either is missing, damaged, or of other encoders than the data.
    """
    ethd, card = load_ethd(run)
    vaid = load_vaid(card.vaid, data.index.encoders)
    codec = build_as("codec", card.encoders["codec"])
    return Studio(ethd, card, vaid, codec, steps or card.config.sampling_steps)


def show(studio: Studio, batch: ClipBatch, seed: int) -> dict[str, Tensor]:
    """A clip from its first frame, driven by ``voice`` and by its ``own`` expression: name -> (F, S, S, 3) uint8."""
    vaid = studio.vaid
    e_v = vaid.expression_scale(batch["expression"])
    e_cond = e_v[:, 0]
    e_a = vaid.sample_expression(
        batch["audio"].float(), batch["reference_portrait"], e_cond, [seed_of("voice", seed) >> 1]
    )
    return {
        name: studio.frames(batch, studio.drive(batch, e_dri, e_cond), seed)
        for name, e_dri in (("voice", e_a), ("own", e_v))
    }


def compare(made: Tensor, true: Tensor, detector: MediaPipeDetector) -> Shown:
    """Measures a video against the truth, both (F, S, S, 3) uint8; faces are looked for in each frame alone."""
    faces = [[detector.detect(frame) for frame in video.numpy()] for video in (made, true)]
    both = [i for i, (a, b) in enumerate(zip(*faces, strict=True)) if a and b]
    scores_made, scores_true = (np.stack([np.asarray(found[i][0].blendshapes) for i in both]) for found in faces)
    return Shown(
        psnr(made, true),
        sum(bool(found) for found in faces[0]) / len(made),
        float(np.corrcoef(scores_made[:, JAW], scores_true[:, JAW])[0, 1]),
        float(np.abs(scores_made - scores_true)[:, UPPER_FACE].mean()),
    )


def psnr(made: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of uint8 videos of one shape, over all their pixels."""
    error = (made.float() - true.float()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def contact_sheet(videos: Sequence[Tensor], path: Path) -> None:
    """Writes evenly spaced frames of (F, S, S, 3) videos, one row each."""
    places = np.linspace(0, len(videos[0]) - 1, min(COLUMNS, len(videos[0]))).round().astype(int)
    rows = [np.concatenate(list(video[places].numpy()), axis=1) for video in videos]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def clip_report(studio: Studio, data: ShardDataModule, clip: Clip, seed: int, sheets: Path | None) -> dict[str, object]:
    """All numbers of one clip; its codec's round trip and its first frame repeated are the ends of the scale."""
    batch = data.whole(clip, FIELDS)
    true = batch["video"][0]
    videos = show(studio, batch, seed)
    if sheets is not None:
        contact_sheet([true, *videos.values()], sheets / f"{clip.key}.png")
    coded = studio.codec.decode(batch["latent"][0].float()).permute(0, 2, 3, 1)
    detector = MediaPipeDetector()
    report: dict[str, object] = {
        "frames": len(true),
        "psnr_first_frame": psnr(true[:1].expand_as(true), true),
        "codec": asdict(compare(coded, true, detector)),
    }
    return report | {name: asdict(compare(made, true, detector)) for name, made in videos.items()}


def report(run: str, shards: str, **options: str) -> dict[str, object]:
    """The numbers of some clips; see the top of the file."""
    data = ShardDataModule(DataConfig(name="folder", root=shards, workers=0))
    data.setup()
    studio = open_studio(run, data, int(options["steps"]) if "steps" in options else None)
    clips = data.clips[options.get("split", "train")][: int(options.get("clips", 1))]
    sheets = Path(options["sheets"]) if "sheets" in options else None
    return {clip.key: clip_report(studio, data, clip, int(options.get("seed", 0)), sheets) for clip in clips}


if __name__ == "__main__":
    known: Readers = {"split": str, "steps": count, "seed": int, "clips": count, "sheets": str}
    places = ("run", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], known, places)), indent=1)))
