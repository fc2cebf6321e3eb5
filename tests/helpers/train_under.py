"""Trains like train.py under any strategy: python tests/helpers/train_under.py STRATEGY DEVICES ROOT OUTPUT OVERRIDE...

STRATEGY deepspeed is DeepSpeed's engine on the CPU.

A script of its own, because Lightning starts the other ranks by running the command once more.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.train_config import train_config
from training.fit import exit_status, fit

if __name__ == "__main__":
    strategy, devices, root, output, *overrides = sys.argv[1:]
    if strategy == "deepspeed":
        from tests.helpers import cpu_deepspeed  # noqa: F401  (puts it in place of the GPU's)
    config = train_config(*overrides)
    config.data.root, config.output = root, output
    config.trainer.strategy, config.trainer.devices = strategy, devices
    sys.exit(exit_status(fit(config)))
