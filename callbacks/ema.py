"""Averaged weights of ETHD: s <- d s + (1 - d) w after every step, in float32, under any strategy.

Lightning's own average stands under the key ``state_dict``, which DeepSpeed drops, and is swapped into bfloat16 weights
and back, which rounds it. Here it has its own key, and validation puts saved weights back as they were.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from lightning_modules.ethd.checkpoint import EMA
from lightning_modules.ethd.module import EthdModule


class WeightAverage(Callback):
    """Keeps the average, validates with it, and saves it in every checkpoint.

    Args:
        decay: d; while fewer than about 10 / (1 - d) steps are averaged it is (1 + n) / (10 + n) after n of them.

    Attributes:
        weights: name in ``Ethd`` -> float32.
        updates: n.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        self.updates = 0
        self._raw: dict[str, Tensor] = {}
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from the network's weights, or goes on from a checkpoint's average."""
        network = _weights(pl_module)
        if not self.weights:
            self.weights = {name: weight.float().clone() for name, weight in network.items()}
        self.weights = {name: self.weights[name].to(weight.device) for name, weight in network.items()}
        self._seen = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Takes the new weights in, once for each step of the optimizer."""
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        rate = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        network = _weights(pl_module)
        current = [network[name].float() for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), current, rate)
        self.updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the average in place of the weights, which wait on the host."""
        network = _weights(pl_module)
        self._raw = {name: weight.to("cpu", copy=True) for name, weight in network.items()}
        _copy(self.weights, network)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the weights back."""
        _copy(self._raw, _weights(pl_module))
        self._raw = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the average under its own key, on the rank that writes."""
        if not trainer.is_global_zero:
            return
        weights = {name: weight.cpu() for name, weight in self.weights.items()}
        checkpoint[EMA] = {"weights": weights, "updates": self.updates}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on from the checkpoint's average; one without starts a new one."""
        if EMA in checkpoint:
            self.weights = dict(checkpoint[EMA]["weights"])
            self.updates = checkpoint[EMA]["updates"]


def _weights(module: LightningModule) -> dict[str, Tensor]:
    return {name: weight.data for name, weight in cast(EthdModule, module).ethd.named_parameters()}


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, weight in target.items():
        weight.copy_(source[name])
