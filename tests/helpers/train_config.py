"""Trains the smallest networks as the command line does, and reads what a run logged."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command_line import compose
from configs.training import TrainConfig

if TYPE_CHECKING:
    from training.fit import Run

LIP = {"width": 16, "depth": 1, "latents": 2, "head_width": 8}
EXPRESSION = {"width": 16, "depth": 1, "head_width": 8, "identity_widths": [8], "identity_size": 16}
UNET = {
    "channels": [32, 32], "heads": [1, 1], "attention": [True, True], "layers": 1, "token_width": 8, "added_width": 8,
}  # fmt: skip


def _spelled(network: dict[str, object]) -> str:
    """Formats a network's configuration in Hydra's syntax."""
    return str(network).replace("'", "").replace(" ", "")


_SHORT = (
    "model.lr_decay=none", "data.name=folder", "data.steps_per_epoch=4", "trainer.validate_every=3",
    "trainer.validation_clips=2", "trainer.log_every=1", "trainer.progress_bar=false",
)  # fmt: skip
# V-AID and ETHD networks that train within seconds, in epochs of four steps.
SMALLEST = (
    f"model.lip={_spelled(LIP)}", f"model.expression={_spelled(EXPRESSION)}", "model.sampling_steps=2",
    "model.club.warmup=2", "data.window=32", "data.batch_size=4", "encoders={audio:mel,motion:landmarks}", *_SHORT,
)  # fmt: skip
SMALLEST_ETHD = (
    f"model.unet={_spelled(UNET)}", "model.ema=0.5", "model.lr=1e-3", "model.lr_warmup=0", "model.expression_steps=2",
    "data.window=8", "data.batch_size=2", "trainer.devices='1'", "trainer.strategy=auto",
    "encoders={audio:mel,motion:landmarks,codec:patch}", *_SHORT,
)  # fmt: skip


def train_config(*typed: str) -> TrainConfig:
    """Composes the configuration of ``train.py`` from command-line arguments."""
    return compose("train", TrainConfig, typed)


def train(*typed: str) -> Run:
    """Trains in this process as ``train.py`` does."""
    from configs.rules import check
    from training.fit import fit

    config = train_config(*typed)
    check(config)
    return fit(config)


def train_vaid(shards: Path, output: Path, *changes: str, steps: int = 6) -> Run:
    """Trains the smallest V-AID."""
    places = f"data.root={shards}", f"output={output}"
    return train("experiment=vaid/tiny", *SMALLEST, *places, f"trainer.max_steps={steps}", *changes)


def train_ethd(
    shards: Path, vaid: Path | None, output: Path, *changes: str, steps: int = 6, experiment: str = "tiny"
) -> Run:
    """Trains the smallest ETHD."""
    places = f"data.root={shards}", f"output={output}", f"vaid={vaid or 'null'}"
    steps_ = f"trainer.max_steps={steps}"
    return train(f"experiment=ethd/{experiment}", *SMALLEST_ETHD, *places, steps_, *changes)


def logged(folder: Path, column: str) -> dict[int, str]:
    """Returns step -> logged value of a column, as text; every step must occur once."""
    rows = []
    for path in sorted(folder.glob("csv*/metrics.csv")):
        with path.open() as file:
            rows += [row for row in csv.DictReader(file) if row[column]]
    found = {int(row["step"]): row[column] for row in rows}
    assert len(found) == len(rows)
    return found
