"""Videos of validation clips in the middle of training: from the network as it is, without a trace in the training.

In a validation the network holds its averaged weights. Shapes: F frames, S side of the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules.datamodule import ShardDataModule
from datamodules.order import seed_of
from datamodules.windows import Clip, ClipBatch
from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser
from encoders.protocols import FPS, SAMPLE_RATE, LatentCodec
from lightning_modules.ethd.module import EthdModule, single_precision
from media import VideoWriter

MODES = ("both", "lips", "expression")  # which of the two drives moves the face
FIELDS = ("audio", "expression", "latent", "boxes", "portraits", "speech")


class VideoMaker:
    """Makes the videos of some validation clips, the same ones every time.

    Args:
        codec: of the latents.
        clips: how many; evenly spaced over the validation split.
        frames: at most so many of each.
    """

    def __init__(self, codec: LatentCodec, clips: int, frames: int = 125) -> None:
        self.codec = codec
        self.count = clips
        self.frames = frames

    def chosen(self, trainer: Trainer) -> list[Clip]:
        """All clips shown; every process takes ``[global_rank::world_size]`` of them."""
        data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
        clips = data.clips["val"]
        places = np.linspace(0, len(clips) - 1, min(self.count, len(clips))).round().astype(int)
        return [clips[place] for place in places]

    def read(self, trainer: Trainer, clip: Clip) -> ClipBatch:
        """A clip from its first frame on, on the network's device; with its pixels where the shards keep them."""
        data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
        fields = (*FIELDS, "video") if "video.mp4" in clip.entry.members else FIELDS
        batch: Any = data.whole(clip, fields, self.frames)
        device = trainer.strategy.root_device
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}  # type: ignore[return-value]

    def truth(self, batch: ClipBatch) -> np.ndarray:
        """(F, S, S, 3) uint8: the pixels, or what the codec keeps of them."""
        if "video" in batch:
            return batch["video"][0].cpu().numpy()
        return self._decoded(batch["latent"][0].float())

    @torch.no_grad()
    def make(self, module: EthdModule, batch: ClipBatch, mode: str = "both") -> np.ndarray:
        """(F, S, S, 3) uint8 from the clip's reference frame and its sound.

        Args:
            module: whose weights are used; in evaluation mode.
            batch: of one clip, from ``read``.
            mode: ``both``; ``lips`` keeps the reference's expression; ``expression`` keeps the lips still.
        """
        device, vaid = module.device, module.vaid
        with undisturbed(device), single_precision(device):
            seeds = [seed_of("validation video", key) >> 1 for key in batch["key"]]
            e_ref = vaid.expression_scale(batch["reference_expression"].float())
            e_dri = (
                e_ref[:, None].repeat(1, batch["latent"].shape[1], 1)
                if mode == "lips"
                else vaid.sample_expression(
                    batch["audio"].float(),
                    batch["reference_portrait"],
                    vaid.expression_scale(batch["first_expression"].float()),
                    seeds,
                )
            )
            example = module.example(batch, seeds, e_dri)
            drive = replace(example.drive, lip=None) if mode == "expression" else example.drive
            weights = next(module.ethd.parameters()).dtype

            def predict(x: Tensor, t: Tensor, where: slice) -> Tensor:
                near = drive.window(where)
                denoise = VelocityDenoiser(
                    lambda noisy, level: module.ethd(noisy.to(weights), level, example.reference, near), module.schedule
                )
                return denoise(x, t)

            config = module.config
            assert config.overlap is not None
            x0 = sample_long(
                predict, example.noise, module.schedule, config.sampling_steps, config.window, config.overlap
            )
            return self._decoded(module.card.latents.restored(x0[0]))

    def _decoded(self, latents: Tensor) -> np.ndarray:
        return self.codec.decode(latents.cpu()).permute(0, 2, 3, 1).numpy()


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """What is drawn inside moves no random generator of the training."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def write_video(path: Path, frames: np.ndarray, batch: ClipBatch) -> None:
    """(F, H, W, 3) uint8 with the clip's sound, almost without loss; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = batch["speech"][0].cpu().numpy()
    size = frames.shape[2], frames.shape[1]
    with VideoWriter(path, size=size, fps=FPS, sound=sound, sound_rate=SAMPLE_RATE, crf=4) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def due(trainer: Trainer, last: int, every: int) -> bool:
    """Whether the first validation after another ``every`` steps has come."""
    return not trainer.sanity_checking and trainer.global_step // every > last // every
