"""Exponential moving average (EMA) of weights in float32, under any strategy: s <- d s + (1 - d) w per step.

Under DeepSpeed, w are the optimizer's float32 weights. Each rank averages its partition of them. The network's own
weights may be bfloat16, which rounds off most updates. Partitions are gathered only for saving and validation.

Lightning's EMA callback is not used: it saves the average under the key ``state_dict``, which DeepSpeed drops, and
swaps it with bfloat16 weights, which rounds it. Here the average has its own key, and validation does not round it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, distributed
from torch.nn import Parameter

from lightning_modules.checkpoints import EMA


class WeightAverage(Callback):
    """Updates the average, validates with it, and saves it in every checkpoint.

    The module's ``averaged_parameters()`` names the parameters that are averaged.

    Args:
        decay: Decay d. The decay in use after n updates is min(d, (1 + n) / (10 + n)).

    Attributes:
        weights: Parameter name -> float32 average; under DeepSpeed this rank's flat partition of it.
        updates: Number n of updates.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        self.updates = 0
        self._loaded: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Initialises the average with the network's weights, or with the average of a checkpoint."""
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
        """Updates the average once per optimizer step."""
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        rate = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = _parameters(pl_module)
        current = [own_part(parameters[name]).float() for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), current, rate)
        self.updates += 1

    def whole(self, module: LightningModule) -> Iterator[tuple[str, Tensor]]:
        """Iterates over names and gathered averages. Must be consumed on every rank."""
        for name, parameter in _parameters(module).items():
            yield name, _gathered(self.weights[name], parameter)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exchanges weights and average in place; under DeepSpeed, keeps the weights on the CPU meanwhile."""
        parameters = _parameters(pl_module)
        others = {name: each for name, each in parameters.items() if not self._exchange(name, each)}
        self._raw = {name: parameter.data.to("cpu", copy=True) for name, parameter in others.items()}
        for name, parameter in others.items():
            parameter.data.copy_(_gathered(self.weights[name], parameter))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the weights."""
        for name, parameter in _parameters(pl_module).items():
            if name in self._raw:
                parameter.data.copy_(self._raw[name])
            else:
                self._exchange(name, parameter)
        self._raw = {}

    def _exchange(self, name: str, parameter: Parameter) -> bool:
        """Exchanges a parameter and its average, unless the average is divided among the ranks or more precise."""
        average = self.weights[name]
        if hasattr(parameter, "_hp_mapping") or average.dtype != parameter.dtype:
            return False
        kept = parameter.data.clone()
        parameter.data.copy_(average)
        average.copy_(kept)
        return True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the average under its own key on rank 0."""
        weights = {}
        for name, average in self.whole(pl_module):
            if trainer.is_global_zero:
                weights[name] = average.cpu()
        if trainer.is_global_zero:
            checkpoint[EMA] = {"weights": weights, "updates": self.updates}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Loads the average of the checkpoint, if it has one."""
        if EMA in checkpoint:
            self._loaded = dict(checkpoint[EMA]["weights"])
            self.updates = checkpoint[EMA]["updates"]


class Float32Weights(Callback):
    """Saves DeepSpeed's float32 weights in every checkpoint, in place of the average, for exports and ``init=``.

    The network's own weights, which DeepSpeed saves, are bfloat16. Nothing is kept in memory.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gathers the weights and adds them on rank 0."""
        weights = {}
        for name, parameter in _parameters(pl_module).items():
            whole = _gathered(own_part(parameter).float(), parameter)
            if trainer.is_global_zero:
                weights[name] = whole.cpu()
        if trainer.is_global_zero:
            checkpoint[EMA] = {"weights": weights, "updates": 0}


def own_part(parameter: Parameter) -> Tensor:
    """The part of a parameter that this rank updates: all of it, or under ZeRO its flat partition in float32.

    DeepSpeed maps a parameter to its partition by ``_hp_mapping``, which is None on ranks without a part of it.
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
    """Gathers the partitions of all ranks into a float32 tensor of the parameter's shape."""
    if not hasattr(parameter, "_hp_mapping"):
        return part
    whole = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
    _own_part_of(whole, parameter).copy_(part)
    distributed.all_reduce(whole, group=cast(Any, parameter)._dp_group)
    return whole


def _parameters(module: LightningModule) -> dict[str, Parameter]:
    return cast(dict[str, Parameter], cast(Any, module).averaged_parameters())
