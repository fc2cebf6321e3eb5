"""One rank of a run with an injected fault: train_faulty.py FAULT OVERRIDE...

FAULT is none, or RANK:STEP:KIND. KIND is die (SIGKILL), stall (the data never arrive), nan, or raise.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.train_config import train_config


def inject_fault(rank: int, step: int, what: str) -> None:
    from datamodules.loader import StreamDataset
    from datamodules.schema import ShardError
    from lightning_modules.vaid.module import VAIDModule

    if int(os.environ.get("LOCAL_RANK", "0")) != rank:
        return
    read, losses = StreamDataset.read, VAIDModule.losses

    def reading(self, number, allocate):
        if number == step and what == "stall":
            time.sleep(3600)
        if number == step and what == "raise":
            raise ShardError("shard-00000.tar is damaged")
        return read(self, number, allocate)

    def losing(self, batch):
        if batch["step"] == step and what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        found = losses(self, batch)
        return found._replace(loss=found.loss * float("nan")) if batch["step"] == step and what == "nan" else found

    StreamDataset.read, VAIDModule.losses = reading, losing


if __name__ == "__main__":
    fault, *overrides = sys.argv[1:]
    if fault != "none":
        rank, step, what = fault.split(":")
        inject_fault(int(rank), int(step), what)
    from training.fit import fit

    try:
        fit(train_config(*overrides))
    except RuntimeError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
