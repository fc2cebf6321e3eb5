"""DeepSpeed's real ZeRO-2 engine on the CPU, for tests that train with ``trainer.strategy=deepspeed``."""

from __future__ import annotations

from configs import training_rules
from training import cpu_zero, strategies

strategies.DEEPSPEED = cpu_zero.CpuZeroStrategy
training_rules._deepspeed = lambda config: None  # the rule that DeepSpeed needs a GPU
