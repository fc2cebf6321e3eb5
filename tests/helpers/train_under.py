"""Trains like train.py with a chosen strategy: python tests/helpers/train_under.py STRATEGY OVERRIDE...

STRATEGY deepspeed is DeepSpeed's engine on the CPU; clips is one process that computes each clip's gradient separately.
With the variable DTYPES=FILE the precision of losses is recorded, with MASTERS=FILE DeepSpeed's float32 weights.
ETHD's averaged weights at the end of the training are written to average.pt in the run directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from callbacks.ema import WeightAverage
from tests.helpers.clip_by_clip import take_clips_one_by_one
from tests.helpers.dtypes import record
from tests.helpers.masters import record_masters
from tests.helpers.train_config import train_config
from training.fit import exit_status, fit

if __name__ == "__main__":
    strategy, *overrides = sys.argv[1:]
    if strategy == "deepspeed":
        from tools.nightly import cpu_deepspeed  # noqa: F401  (replaces the strategy for GPUs)
    if strategy == "clips":
        take_clips_one_by_one()
        strategy = "auto"
    config = train_config(*overrides, f"trainer.strategy={strategy}")
    config.trainer.devices = os.environ.get("WORLD_SIZE", "1")
    if os.environ.get("DTYPES"):
        record(Path(os.environ["DTYPES"]))
    masters = record_masters() if os.environ.get("MASTERS") else []
    run = fit(config)
    for callback in run.trainer.callbacks:
        if isinstance(callback, WeightAverage):
            average = dict(callback.whole(run.module))
            if run.trainer.is_global_zero:
                torch.save(average, run.folder / "average.pt")
    if masters and run.trainer.is_global_zero:
        torch.save(masters, os.environ["MASTERS"])
    sys.exit(exit_status(run))
