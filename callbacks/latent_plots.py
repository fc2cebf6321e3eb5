"""Predicted against true latents over time, to the run directory and to loggers that show pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from datamodules.windows import ClipBatch
from lightning_modules.vaid.module import VAIDModule

ROWS = 4  # dimensions shown of each latent: those that move most in the clip


class LatentPlots(Callback):
    """Draws the first validation clip after every validation.

    Args:
        folder: run directory; pictures go to ``plots/``.
        lip_names: what the lip latent's dimensions are; None numbers them.
        expression_names: the same for the expression latent.
    """

    def __init__(
        self,
        folder: str | Path,
        lip_names: tuple[str, ...] | None = None,
        expression_names: tuple[str, ...] | None = None,
    ) -> None:
        self.folder = Path(folder) / "plots"
        self.names = (lip_names, expression_names)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the first batch on the first rank."""
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, VAIDModule)
        picture = draw(pl_module, batch, self.names)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{trainer.global_step:07d}.png"
        write_png(picture, path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/latents", picture, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("val/latents", [str(path)])


@torch.no_grad()
def draw(module: VAIDModule, batch: ClipBatch, names: tuple[tuple[str, ...] | None, ...] = (None, None)) -> np.ndarray:
    """(H, W, 3) uint8 picture of a batch's first clip: lips on the left, expression with two samples on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window system, and slow to import
    from matplotlib.figure import Figure

    vaid, frames = module.vaid, int(batch["frames"][0])
    audio, mask = batch["audio"][:1, :frames], batch["mask"][:1, :frames]
    e_cond = vaid.expression_scale(batch["first_expression"][:1])
    portrait = batch["reference_portrait"][:1]
    lips = [vaid.lip_scale.restore(vaid.lip(audio, mask))[0]]
    expressions = [
        vaid.expression_scale.restore(vaid.sample_expression(audio, portrait, e_cond, [seed], mask))[0]
        for seed in (0, 1)
    ]
    figure = Figure(figsize=(14, 2 * ROWS), layout="constrained")
    axes = figure.subplots(ROWS, 2, sharex=True, squeeze=False)
    columns = (("lip", batch["lip"], lips), ("expression", batch["expression"], expressions))
    for column, (name, true, predicted) in enumerate(columns):
        _column(axes[:, column], name, true[0, :frames], predicted, names[column])
    figure.suptitle(batch["key"][0])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _column(axes: np.ndarray, name: str, true: Tensor, predicted: list[Tensor], names: tuple[str, ...] | None) -> None:
    moving = true.float().std(0).argsort(descending=True)[: len(axes)].tolist()
    seconds = np.arange(len(true)) / 25
    for ax, dimension in zip(axes, moving, strict=False):
        ax.plot(seconds, true[:, dimension].cpu(), color="black", linewidth=1.2, label="true")
        for number, one in enumerate(predicted):
            ax.plot(seconds, one[:, dimension].float().cpu(), linewidth=1, label=f"predicted {number + 1}")
        ax.set_ylabel(names[dimension].replace("_", " ") if names else f"{name} {dimension}", fontsize=8)
        ax.margins(x=0)
    axes[0].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("seconds")


def write_png(picture: np.ndarray, path: Path) -> None:
    """Writes an (H, W, 3) uint8 picture."""
    from PIL import Image

    Image.fromarray(picture).save(path)
