"""Profile of a training step: time by operator, by kernel, and by kind of work."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# Names of operators that are matrix products, convolutions and attention, forward and backward.
KINDS = {
    "attention": ("attention", "flash", "sdpa"),
    "convolution": ("conv",),
    "matrix product": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear", "aten::matmul"),
}


class ProfiledStep(Callback):
    """Profiles one step.

    Args:
        step: Zero-based number of the step.

    Attributes:
        shares: Kind of work, or another operator -> share of the step's time on the device; largest first.
        table: Text of ``torch.profiler`` by operator, and on a GPU by kernel.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.shares: dict[str, float] = {}
        self.table = ""
        self._profile: profile | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts the profile."""
        if batch_idx == self.step:
            cuda = [ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else []
            self._profile = profile(activities=[ProfilerActivity.CPU, *cuda])
            self._profile.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the profile."""
        if self._profile is None or batch_idx != self.step:
            return
        cuda = pl_module.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(pl_module.device)
        self._profile.stop()
        averages = self._profile.key_averages()
        spent = "self_device_time_total" if cuda else "self_cpu_time_total"
        self.shares = shares({event.key: getattr(event, spent) for event in averages if _is_operator(event)})
        # With a GPU, kernels and the operators that start them are rows of the same table.
        self.table = averages.table(sort_by=spent, row_limit=40, max_name_column_width=90)


def _is_operator(event: Any) -> bool:
    return event.device_type == DeviceType.CPU and "::" in event.key


def shares(times: dict[str, float]) -> dict[str, float]:
    """Shares of the time by kind of work. Every operator of no kind is a row of its own.

    Args:
        times: Operator -> its own time, without the operators it calls.
    """
    total = sum(times.values()) or 1.0
    found: dict[str, float] = {}
    for name, spent in times.items():
        kind = next((kind for kind, parts in KINDS.items() if _belongs(name, parts)), name)
        found[kind] = found.get(kind, 0.0) + spent / total
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _belongs(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part if "::" in part else part in name.lower() for part in parts)
