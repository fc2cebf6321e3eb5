"""Averaged weights of ETHD: s <- d s + (1 - d) w after every step, in float32, under any strategy.

Under DeepSpeed w are the optimizer's own float32 weights, of which each rank holds and averages a part; the network's
may be bfloat16, in which a step of the learning rate is mostly lost. Parts are put together only where the average is
saved or validated.

Lightning's own average stands under the key ``state_dict``, which DeepSpeed drops, and is swapped into bfloat16 weights
and back, which rounds it. Here it has its own key, and validation puts saved weights back as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, distributed
from torch.nn import Parameter

from lightning_modules.ethd.checkpoint import EMA
from lightning_modules.ethd.module import EthdModule


class WeightAverage(Callback):
    """Keeps the average, validates with it, and saves it in every checkpoint.

    Args:
        decay: d; while fewer than about 10 / (1 - d) steps are averaged it is (1 + n) / (10 + n) after n of them.

    Attributes:
        weights: name in ``Ethd`` -> float32; under DeepSpeed this rank's part of it, flat.
        updates: n.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        self.updates = 0
        self._loaded: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from the network's weights, or goes on from a checkpoint's average."""
        parameters = _parameters(pl_module)
        self.weights = {name: own_part(parameter).float().clone() for name, parameter in parameters.items()}
        for name, whole in self._loaded.items():
            self.weights[name].copy_(_own_part_of(whole, parameters[name]))
        self._loaded = {}
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
        parameters = _parameters(pl_module)
        current = [own_part(parameters[name]).float() for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), current, rate)
        self.updates += 1

    def whole(self, module: LightningModule) -> Iterator[tuple[str, Tensor]]:
        """Name and all of each averaged weight; to be gone through on every rank."""
        for name, parameter in _parameters(module).items():
            yield name, _gathered(self.weights[name], parameter)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the average in place of the weights, which wait on the host."""
        parameters = _parameters(pl_module)
        self._raw = {name: parameter.data.to("cpu", copy=True) for name, parameter in parameters.items()}
        for name, average in self.whole(pl_module):
            parameters[name].data.copy_(average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the weights back."""
        for name, parameter in _parameters(pl_module).items():
            parameter.data.copy_(self._raw[name])
        self._raw = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the average under its own key, on the rank that writes."""
        weights = {}
        for name, average in self.whole(pl_module):
            if trainer.is_global_zero:
                weights[name] = average.cpu()
        if trainer.is_global_zero:
            checkpoint[EMA] = {"weights": weights, "updates": self.updates}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on from the checkpoint's average; one without starts a new one."""
        if EMA in checkpoint:
            self._loaded = dict(checkpoint[EMA]["weights"])
            self.updates = checkpoint[EMA]["updates"]


def own_part(parameter: Parameter) -> Tensor:
    """What of a parameter this rank updates: all of it, or, under ZeRO, its flat part of the float32 weights.

    DeepSpeed ties each parameter to its optimizer's part by ``_hp_mapping``, None on ranks that hold nothing of it.
    """
    if not hasattr(parameter, "_hp_mapping"):
        return parameter.data
    mapping = parameter._hp_mapping
    return parameter.data.new_empty(0) if mapping is None else cast(Tensor, mapping.hp_fragment.data)


def _own_part_of(whole: Tensor, parameter: Parameter) -> Tensor:
    if not hasattr(parameter, "_hp_mapping"):
        return whole
    mapping = parameter._hp_mapping
    if mapping is None:
        return whole.new_empty(0)
    place = mapping.lp_fragment_address
    return whole.flatten()[place.start : place.start + place.numel]


def _gathered(part: Tensor, parameter: Parameter) -> Tensor:
    """All of a parameter from the ranks' parts, float32, shaped like it."""
    if not hasattr(parameter, "_hp_mapping"):
        return part
    whole = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
    _own_part_of(whole, parameter).copy_(part)
    distributed.all_reduce(whole, group=cast(Any, parameter)._dp_group)
    return whole


def _parameters(module: LightningModule) -> dict[str, Parameter]:
    return dict(cast(EthdModule, module).ethd.named_parameters())
