"""A real Lightning Trainer over a stream loader, with one process per rank, that records every batch.

As a script it is one rank: train_stream.py SETTINGS, as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from configs.data import DataConfig
from datamodules.mixture import datamodule
from tests.helpers import ROOT
from tests.helpers.warm import run_ranks


class Recorder(LightningModule):
    """A module with one weight that writes the content of every batch to a file of its rank."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.log_file = log

    def training_step(self, batch, batch_index):
        self._write("train", batch)
        return (self.weight * batch["lip"].mean()).sum()

    def validation_step(self, batch, batch_index):
        self._write("val", batch)

    def test_step(self, batch, batch_index):
        self._write("test", batch)

    def _write(self, kind, batch):
        draw, start, frames, valid = (batch[name].tolist() for name in ("draw", "start", "frames", "valid"))
        row = {"kind": kind, "rank": self.global_rank, "step": batch["step"], "epoch": self.current_epoch}
        row["samples"] = list(zip(draw, batch["key"], start, frames, strict=True))
        row |= {"valid": valid, "length": batch["lip"].shape[1]}
        row["sums"] = batch["lip"].double().sum((1, 2)).tolist()
        with self.log_file.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def run(folder: Path, data: DataConfig, ranks: int, *, task: str = "fit", **settings) -> list[dict]:
    """Runs ``ranks`` gloo processes and returns the rows of all ranks, in order of ranks.

    Args:
        folder: Folder of the logs.
        data: Data configuration.
        ranks: Number of processes.
        task: fit or test.
        **settings: ``max_steps``; ``save_every`` steps; checkpoint to ``resume`` from; ``validate``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings |= {"ranks": ranks, "folder": str(folder), "data": asdict(data), "task": task}
    done = run_ranks([sys.executable, __file__, json.dumps(settings)], ranks, PYTHONPATH=str(ROOT))
    assert [rank.returncode for rank in done] == [0] * ranks, [rank.stderr for rank in done]
    return [json.loads(line) for rank in range(ranks) for line in (folder / f"{task}.{rank}").read_text().splitlines()]


def _rank(ranks: int, folder: str, data: dict, task: str, **settings) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder, callbacks = Path(folder), []
    if every := settings.get("save_every"):
        names = {"filename": "{step}", "auto_insert_metric_name": False}
        callbacks.append(ModelCheckpoint(folder, every_n_train_steps=every, save_top_k=-1, **names))
    trainer = Trainer(
        max_steps=settings.get("max_steps", 1), accelerator="cpu", devices=ranks,
        strategy=DDPStrategy(process_group_backend="gloo") if ranks > 1 else "auto", callbacks=callbacks,
        enable_checkpointing=bool(every), logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=1.0 if settings.get("validate") else 0.0,
    )  # fmt: skip
    module = Recorder(folder / f"{task}.{trainer.global_rank}")
    if task == "test":
        trainer.test(module, datamodule=datamodule(DataConfig(**data)), verbose=False)
    else:
        trainer.fit(module, datamodule=datamodule(DataConfig(**data)), ckpt_path=settings.get("resume"))


if __name__ == "__main__":
    _rank(**json.loads(sys.argv[1]))
