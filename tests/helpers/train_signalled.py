"""Trains and sends a signal to one rank at a chosen moment.

    python tests/helpers/train_signalled.py RANK MOMENT SIGNAL OVERRIDE...

MOMENT is step:N (in the N-th training step), validation, save, or never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.moments import at
from tests.helpers.train_config import train_config

if __name__ == "__main__":
    rank, moment, number, *overrides = sys.argv[1:]
    from training.fit import exit_status, fit

    if os.environ["LOCAL_RANK"] == rank:
        at(moment, lambda: os.kill(os.getpid(), signal.Signals[number]))
    sys.exit(exit_status(fit(train_config(*overrides))))
