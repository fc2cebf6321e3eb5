"""Threads of numerical libraries on a machine or a container whose cores are shared.

OpenMP's threads wait for each other at the end of every operation. By default they wait in a loop (libgomp: some
milliseconds; Intel's and LLVM's: 200 ms). If another program takes a core, all threads loop until the one without a
core is done, so that processor time and duration multiply. Passive threads sleep instead.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from runtime.platforms import allowed_cores, usable_cores

# Variables with which a user decides how threads wait, and how many there are.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets the environment variables that make threads share cores, for this process and those it starts.

    Threads sleep while they wait. In a container whose share of the processor is smaller than the number of its cores,
    there are as many threads as the share has cores. Nothing is changed that the user has set.

    The libraries read the variables when they are loaded, so this must run before torch and NumPy are imported. Every
    command does so; a program of your own may call it first.

    Args:
        environment: Environment variables.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if usable_cores() < allowed_cores() and not any(name in environment for name in NUMBER):
        environment["OMP_NUM_THREADS"] = str(usable_cores())
