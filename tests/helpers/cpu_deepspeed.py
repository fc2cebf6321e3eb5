"""DeepSpeed's real ZeRO-2 engine on the CPU, for tests whose configuration asks for GPUs."""

from __future__ import annotations

from training import strategies
from training.cpu_zero import CpuZeroStrategy

strategies.DEEPSPEED = CpuZeroStrategy
