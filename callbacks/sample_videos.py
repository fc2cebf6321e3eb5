"""Sample videos during training, with strips of frames and heat maps as in EmotiveTalk Fig. 3.

Fig. 3 animates lips and expression separately and shows where frames differ from the reference portrait.

Shapes: F frames, S side of the frames in pixels.
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

COLUMNS = 8  # frames of a strip


class SampleVideos(Callback):
    """Writes ``samples/STEP/CLIP.mp4`` and ``.png`` into the run directory and logs them.

    The video shows the true clip on the left and the generated one on the right. The strip has four rows of frames: the
    true clip, and clips generated in the modes ``both``, ``lips`` and ``expression``. Each row ends with a heat map of
    its mean difference from the reference. Samples are generated in validations with the EMA weights. The ranks share
    the clips.

    Args:
        folder: Run directory.
        maker: Generator of the videos.
        every: Minimum number of steps between samples.
    """

    def __init__(self, folder: str | Path, maker: VideoMaker, every: int) -> None:
        self.folder = Path(folder) / "samples"
        self.maker = maker
        self.every = every
        self._last = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Builds the codec on the device of this process."""
        self.maker.setup(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts from the current step, also in a resumed run."""
        self._last = trainer.global_step

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generates this rank's share of the samples."""
        if not due(trainer, self._last, self.every):
            return
        self._last = trainer.global_step
        assert isinstance(pl_module, EthdModule)
        modes = MODES if pl_module.config.variant == "full" else MODES[:1]  # other variants lack lip or expression
        clips = self.maker.chosen(trainer)
        for clip in clips[trainer.global_rank :: trainer.world_size]:
            batch = self.maker.read(trainer, clip)
            made = {mode: self.maker.make(pl_module, batch, mode) for mode in modes}
            truth = self.maker.truth(batch)
            place = int(batch["reference_frame"][0])  # may lie beyond the end of a shortened clip
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
    """(rows S, (COLUMNS + 1) S, 3) uint8 strip: one row for the true and each generated video, with heat maps."""
    places = np.linspace(0, len(truth) - 1, COLUMNS).round().astype(int)
    rows = [np.concatenate([*video[places], heat_map(video, reference)], axis=1) for video in (truth, *made)]
    return np.concatenate(rows)


def heat_map(video: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 heat map of the mean absolute difference of (F, S, S, 3) frames from a reference image.

    Colours range from black over red and yellow to white, which is a difference of a quarter of the full range. The
    fixed scale makes maps comparable.
    """
    difference = np.abs(video.astype(np.float32) - reference).mean(axis=(0, 3)) / 64
    channels = [np.clip(3 * difference - place, 0, 1) for place in range(3)]
    return (255 * np.stack(channels, axis=-1)).round().astype(np.uint8)
