"""DeepSpeed's real ZeRO engine on the CPU, over gloo. Lightning's own strategy supports only CUDA."""

from __future__ import annotations

import os
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"  # read at the import of deepspeed

import torch

from training.strategies import ZeroStrategy


class CpuZeroStrategy(ZeroStrategy):
    """ZeRO-1 or ZeRO-2 over gloo; everything except the device is as on GPUs."""

    def __init__(self, *settings: Any, **others: Any) -> None:
        import deepspeed  # type: ignore[import-untyped]  # late: Windows has none

        # All-reduce through shared memory needs a minute of C++ compilation and is only faster than gloo.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # CPUs have no streams, so communication cannot overlap.
        super().__init__(*settings, **others, overlap_comm=False, process_group_backend="gloo")

    @property
    def root_device(self) -> torch.device:
        """The CPU, with an index, because DeepSpeed compares it."""
        return torch.device("cpu", 0)

    def setup_environment(self) -> None:
        """Starts the process group; as in Lightning's strategy, but without its check for CUDA."""
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Starts the process group."""
        self.set_world_ranks()
        self._init_deepspeed_distributed()
