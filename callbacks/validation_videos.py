"""Generates videos of validation clips during training with the sampler of generate.py, without affecting training.

During validation the network has its EMA weights.

Shapes: F frames, S side of the frames in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

from configs.generation import DrivingMode
from datamodules.clip_windows import Clip, ClipBatch
from datamodules.datamodule import ShardDataModule
from encoders.protocols import FPS, SAMPLE_RATE, LatentCodec
from lightning_modules.ethd.module import EthdModule, single_precision
from lightning_modules.ethd.sampler import Sampler
from media import VideoWriter

MODES: tuple[DrivingMode, ...] = ("both", "lips", "expression")
FIELDS = ("audio", "expression", "latent", "boxes", "portraits", "speech")


class VideoMaker:
    """Generates videos of a fixed set of validation clips.

    Args:
        codec: Builds the codec of the latents on a device. ``setup`` calls it, because the device of this process is
            not known earlier.
        clips: Number of clips, evenly spaced over the validation split.
        frames: Maximum number of frames per clip.
    """

    def __init__(self, codec: Callable[[str], LatentCodec], clips: int, frames: int = 125) -> None:
        self._build = codec
        self.count = clips
        self.frames = frames

    def setup(self, device: torch.device) -> None:
        """Builds the codec on the device of this process."""
        self.codec = self._build(str(device))

    def chosen(self, trainer: Trainer) -> list[Clip]:
        """The set of clips; each rank generates ``[global_rank::world_size]`` of them."""
        data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
        return data.clips["val"].spread(self.count)[:]

    def read(self, trainer: Trainer, clip: Clip) -> ClipBatch:
        """Reads a clip from its first frame, with its video if the shards contain it."""
        data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
        fields = (*FIELDS, "video") if "video.mp4" in clip.entry.members else FIELDS
        return data.whole(clip, fields, self.frames)

    def truth(self, batch: ClipBatch) -> np.ndarray:
        """(F, S, S, 3) uint8 true frames, or the codec's reconstruction if the shards contain no video."""
        if "video" in batch:
            return batch["video"][0].numpy()
        return self.codec.decode(batch["latent"][0].float()).permute(0, 2, 3, 1).numpy()

    def make(self, module: EthdModule, batch: ClipBatch, mode: DrivingMode = "both") -> np.ndarray:
        """Generates (F, S, S, 3) uint8 frames from the clip's reference frame and sound, as generate.py does.

        Args:
            module: Module with the weights to use; it is not changed.
            batch: One clip, from ``read``.
            mode: ``both``, ``lips`` (keeps the expression of the reference) or ``expression`` (keeps the lips still).
        """
        with isolated_random_state(module.device), single_precision(module.device):
            return Sampler(module.ethd, module.info, self.codec, module.device).render(module.vaid, batch, mode=mode)


@contextmanager
def isolated_random_state(device: torch.device) -> Iterator[None]:
    """Context in which random numbers do not advance the generators of the training."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def write_video(path: Path, frames: np.ndarray, batch: ClipBatch) -> None:
    """Writes (F, H, W, 3) uint8 frames with the clip's sound, nearly losslessly and atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = batch["speech"][0].numpy()
    size = frames.shape[2], frames.shape[1]
    with VideoWriter(path, size=size, fps=FPS, sound=sound, sound_rate=SAMPLE_RATE, crf=4) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def due(trainer: Trainer, last: int, every: int) -> bool:
    """Whether a multiple of ``every`` steps has been passed since step ``last``."""
    return not trainer.sanity_checking and trainer.global_step // every > last // every
