"""Videos of validation clips in the middle of training, as generate.py would make them; training is not affected.

In a validation the network holds its averaged weights. Shapes: F frames, S side of the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        """A clip from its first frame on, with its pixels where the shards keep them."""
        data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
        fields = (*FIELDS, "video") if "video.mp4" in clip.entry.members else FIELDS
        return data.whole(clip, fields, self.frames)

    def truth(self, batch: ClipBatch) -> np.ndarray:
        """(F, S, S, 3) uint8: the pixels, or what the codec keeps of them."""
        if "video" in batch:
            return batch["video"][0].numpy()
        return self.codec.decode(batch["latent"][0].float()).permute(0, 2, 3, 1).numpy()

    def make(self, module: EthdModule, batch: ClipBatch, mode: DrivingMode = "both") -> np.ndarray:
        """(F, S, S, 3) uint8: what generate.py would make of the clip's reference frame and its sound.

        Args:
            module: Its weights are used as they are now; it stays as it is.
            batch: One clip, from ``read``.
            mode: ``both``; ``lips`` keeps the reference's expression; ``expression`` keeps the lips still.
        """
        with isolated_random_state(module.device), single_precision(module.device):
            return Sampler(module.ethd, module.info, self.codec, module.device).render(module.vaid, batch, mode=mode)


@contextmanager
def isolated_random_state(device: torch.device) -> Iterator[None]:
    """What is drawn inside moves no random generator of the training."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def write_video(path: Path, frames: np.ndarray, batch: ClipBatch) -> None:
    """(F, H, W, 3) uint8 with the clip's sound, almost without loss; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = batch["speech"][0].numpy()
    size = frames.shape[2], frames.shape[1]
    with VideoWriter(path, size=size, fps=FPS, sound=sound, sound_rate=SAMPLE_RATE, crf=4) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def due(trainer: Trainer, last: int, every: int) -> bool:
    """Whether the first validation after another ``every`` steps has come."""
    return not trainer.sanity_checking and trainer.global_step // every > last // every
