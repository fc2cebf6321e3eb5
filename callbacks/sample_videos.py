"""Samples to look at during training: videos with sound, strips of frames, and the paper's Fig. 3.

Fig. 3 drives lips and expression each alone and shows where the picture differs from the reference portrait. Shapes:
F frames, S side of the frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from callbacks.logs import show_picture, show_video
from callbacks.validation_videos import MODES, VideoMaker, due, write_video
from datamodules.clip_windows import Clip
from lightning_modules.ethd.module import EthdModule

log = logging.getLogger(__name__)

COLUMNS = 8  # frames on a strip


class SampleVideos(Callback):
    """Writes ``samples/STEP/CLIP.mp4`` and ``.png`` into the run directory, and shows them to loggers that can.

    The video shows the truth beside what was made. The strip has the truth, then for both drives, the lips alone and
    the expression alone a row of frames, with the heat map of that row's mean difference from the reference at its end.
    It runs in the first validation after every so many steps, with the averaged weights; each process makes its share,
    and the first one shows them all.

    Args:
        folder: run directory.
        maker: of the videos.
        every: steps.
    """

    def __init__(self, folder: str | Path, maker: VideoMaker, every: int) -> None:
        self.folder = Path(folder) / "samples"
        self.maker = maker
        self.every = every
        self._last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run goes on counting."""
        self._last = trainer.global_step

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes this process's share of the samples."""
        if not due(trainer, self._last, self.every):
            return
        self._last = trainer.global_step
        assert isinstance(pl_module, EthdModule)
        modes = MODES if pl_module.config.variant == "full" else MODES[:1]  # the others lack one of the drives
        clips = self.maker.chosen(trainer)
        for clip in clips[trainer.global_rank :: trainer.world_size]:
            batch = self.maker.read(trainer, clip)
            made = {mode: self.maker.make(pl_module, batch, mode) for mode in modes}
            truth = self.maker.truth(batch)
            place = int(batch["reference_frame"][0])  # the earliest portrait, which a cut clip may not reach
            reference = truth[min(place, len(truth) - 1)]
            path = self._path(trainer, clip)
            write_video(path, np.concatenate([truth, made["both"]], axis=2), batch)
            Image.fromarray(strip(truth, list(made.values()), reference)).save(path.with_suffix(".png"))
        trainer.strategy.barrier("samples")
        for clip in clips if trainer.is_global_zero else ():
            path = self._path(trainer, clip)
            show_picture(trainer, f"samples/{clip.key}", path.with_suffix(".png"))
            show_video(trainer, f"samples/{clip.key}/video", path)

    def _path(self, trainer: Trainer, clip: Clip) -> Path:
        return self.folder / f"{trainer.global_step:07d}" / f"{clip.key.replace('/', '_')}.mp4"


def strip(truth: np.ndarray, made: Sequence[np.ndarray], reference: np.ndarray) -> np.ndarray:
    """(rows S, (COLUMNS + 1) S, 3) uint8: a row for the truth and for each video, its heat map at the end."""
    places = np.linspace(0, len(truth) - 1, COLUMNS).round().astype(int)
    rows = [np.concatenate([*video[places], heat_map(video, reference)], axis=1) for video in (truth, *made)]
    return np.concatenate(rows)


def heat_map(video: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 of the mean absolute difference of (F, S, S, 3) frames from a picture: black, red, yellow, white.

    White is a quarter of the full range, so that maps of one training can be compared.
    """
    difference = np.abs(video.astype(np.float32) - reference).mean(axis=(0, 3)) / 64
    channels = [np.clip(3 * difference - place, 0, 1) for place in range(3)]
    return (255 * np.stack(channels, axis=-1)).round().astype(np.uint8)
