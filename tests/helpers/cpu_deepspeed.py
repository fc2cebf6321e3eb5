"""DeepSpeed's real ZeRO-2 engine on the CPU, for tests: Lightning's strategy takes no device but CUDA."""

from __future__ import annotations

import os

os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported

import deepspeed
import torch

from training import strategies

# All-reduce through shared memory: a minute of C++ compilation to make what gloo does anyway faster.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class CpuZeroStrategy(strategies.ZeroStrategy):
    """ZeRO over gloo; everything but the device is as on GPUs."""

    def __init__(self, *settings, **others) -> None:
        # CPUs have no streams to overlap.
        super().__init__(*settings, **others, overlap_comm=False, process_group_backend="gloo")

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)  # DeepSpeed compares the index

    def setup_environment(self) -> None:
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._init_deepspeed_distributed()


strategies.DEEPSPEED = CpuZeroStrategy
