"""Plots predicted and true latents over time into the run directory and to loggers that support images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.logs import show_picture
from datamodules.clip_windows import ClipBatch
from datamodules.datamodule import ShardDataModule
from encoders.protocols import FPS
from lightning_modules.vaid.module import VAIDModule

ROWS = 4  # plotted dimensions of each latent: the mouth opening, then those with the largest deviation in the clip
MOUTH_OPENING = ("inner_opening_centre", "jawOpen")  # names of this dimension in encoders that name dimensions
FRAMES = 250  # ten seconds at 25 fps
# As shares of the figure; matplotlib would draw the figure twice more to find them.
MARGINS = {"left": 0.045, "right": 0.995, "bottom": 0.065, "top": 0.94, "wspace": 0.1, "hspace": 0.15}
FIELDS = ("audio", "lip", "expression", "portraits")
Names = tuple[tuple[str, ...], tuple[str, ...]]  # names of the dimensions of lip and expression latents


class LatentPlots(Callback):
    """Plots ten seconds of one clip after every validation and at the end; of a training clip if there is no other.

    Args:
        folder: Run directory; images are written to ``plots/``.
        names: Names of the latents' dimensions; None numbers them.
    """

    def __init__(self, folder: str | Path, names: Names | None = None) -> None:
        self.folder = Path(folder) / "plots"
        self.names = names
        self._batch: ClipBatch | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plots on rank 0."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plots the final state on rank 0."""
        if trainer.is_global_zero:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, module: LightningModule) -> None:
        path = self.folder / f"{trainer.global_step:07d}.png"
        if path.exists():
            return
        assert isinstance(module, VAIDModule)
        if self._batch is None:
            data: ShardDataModule = trainer.datamodule  # type: ignore[attr-defined]
            clips = data.clips["val"] or data.clips["train"]
            self._batch = data.whole(max(clips, key=lambda clip: min(clip.entry.frames, FRAMES)), FIELDS, FRAMES)
        training = module.training
        picture = draw(module.eval(), self._batch, self.names)
        module.train(training)
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        show_picture(trainer, "val/latents", path)


@torch.no_grad()
def draw(module: VAIDModule, batch: ClipBatch, names: Names | None = None) -> np.ndarray:
    """(H, W, 3) uint8 plot of a batch of one clip: lips on the left, two sampled expressions on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display; imported late because it is slow
    from matplotlib.figure import Figure

    vaid, device = module.vaid, module.device
    audio, portrait = batch["audio"].to(device), batch["reference_portrait"].to(device)
    e_cond = vaid.expression_scale(batch["first_expression"].to(device))
    lips = [vaid.lip_scale.restore(vaid.lip(audio))[0]]
    expressions = [
        vaid.expression_scale.restore(vaid.sample_expression(audio, portrait, e_cond, [seed]))[0] for seed in (0, 1)
    ]
    figure = Figure(figsize=(16, 2 * ROWS))
    figure.subplots_adjust(**MARGINS)
    axes = figure.subplots(ROWS, 2, sharex=True, squeeze=False)
    _column(axes[:, 0], batch["lip"][0], lips, names[0] if names else None)
    _column(axes[:, 1], batch["expression"][0], expressions, names[1] if names else None)
    figure.suptitle(batch["key"][0])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _column(axes: np.ndarray, true: Tensor, predicted: list[Tensor], names: tuple[str, ...] | None) -> None:
    opening = [place for place, name in enumerate(names or ()) if name in MOUTH_OPENING]
    moving = true.std(0).argsort(descending=True).tolist()
    shown = [*opening, *(place for place in moving if place not in opening)]
    seconds = np.arange(len(true)) / FPS
    for ax, dimension in zip(axes, shown, strict=False):
        ax.plot(seconds, true[:, dimension], color="black", linewidth=1.2, label="true")
        for number, one in enumerate(predicted):
            ax.plot(seconds, one[:, dimension].float().cpu(), linewidth=1, label=f"predicted {number + 1}")
        ax.set_ylabel(names[dimension].replace("_", " ") if names else f"dimension {dimension}", fontsize=8)
        ax.margins(x=0)
    axes[0].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("seconds")
