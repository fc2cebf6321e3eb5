"""Trains one stage on prepared shards: ``python train.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.training import TrainConfig
from configs.validate import validate_train


def train(config: TrainConfig) -> int:
    """Trains and returns the exit status."""
    validate_train(config)
    from training.fit import fit  # after the checks: what is wrong is said before torch is loaded

    fit(config)
    return 0


if __name__ == "__main__":
    run("train", TrainConfig, train)
