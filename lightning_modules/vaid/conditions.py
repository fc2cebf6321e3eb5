"""e_cond of training clips: the expression that Di-CTE continues (EmotiveTalk §3.2)."""

from __future__ import annotations

from torch import Tensor

from configs.models import VAIDConfig
from datamodules.clip_windows import ClipBatch


def condition(batch: ClipBatch, config: VAIDConfig) -> Tensor:
    """(B, d_e) expression of the first frame of each clip or window, see ``VAIDConfig.condition_frame``."""
    return batch["first_expression"] if config.condition_frame == "clip" else batch["expression"][:, 0]
