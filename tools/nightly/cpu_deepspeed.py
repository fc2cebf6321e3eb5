"""DeepSpeed's real ZeRO-2 engine on the CPU, for checks without GPUs. Lightning's own strategy supports only CUDA."""

from __future__ import annotations

import os
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"  # read at the import of deepspeed

import deepspeed
import torch

from training import strategies

# All-reduce through shared memory needs a minute of C++ compilation and is only faster than gloo.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class CpuZeroStrategy(strategies.ZeroStrategy):
    """ZeRO over gloo; everything except the device is as on GPUs."""

    def __init__(self, *settings: Any, **others: Any) -> None:
        # CPUs have no streams, so communication cannot overlap.
        super().__init__(*settings, **others, overlap_comm=False, process_group_backend="gloo")

    @property
    def root_device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu", 0)  # with an index, because DeepSpeed compares it

    def setup_environment(self) -> None:
        """Sets up device and process group, without the checks for GPUs."""
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Joins the process group."""
        self.set_world_ranks()
        self._init_deepspeed_distributed()


strategies.DEEPSPEED = CpuZeroStrategy
