"""DeepSpeed's ZeRO engine on CPUs, for rehearsals and tests. Lightning's own strategy supports only CUDA.

Importing this module selects DeepSpeed's CPU accelerator for the whole process.
"""

from __future__ import annotations

import os

os.environ["DS_ACCELERATOR"] = "cpu"  # read at the import of deepspeed

from typing import Any

import deepspeed
import torch

from training.strategies import ZeroStrategy

# All-reduce through shared memory needs a minute of C++ compilation and is only faster than gloo.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class CpuZeroStrategy(ZeroStrategy):
    """ZeRO over gloo; everything except the device is as on GPUs."""

    def __init__(self, *settings: Any, **others: Any) -> None:
        # CPUs have no streams, so communication cannot overlap.
        super().__init__(*settings, **others, overlap_comm=False, process_group_backend="gloo")

    @property
    def root_device(self) -> torch.device:
        """The CPU, with an index, because DeepSpeed compares it."""
        return torch.device("cpu", 0)

    def setup_environment(self) -> None:
        """Sets up the process group, without Lightning's check for CUDA."""
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Starts DeepSpeed's communication, without Lightning's check for CUDA."""
        self.set_world_ranks()
        self._init_deepspeed_distributed()
