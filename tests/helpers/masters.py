"""Records the float32 weights of DeepSpeed's optimizer, at the start and after every step of ETHD."""

from __future__ import annotations

from torch import Tensor

from callbacks.ema import WeightAverage


def record_masters() -> list[dict[str, Tensor]]:
    """Returns a list that is filled while this process trains."""
    from deepspeed.utils import safe_get_full_fp32_param

    found: list[dict[str, Tensor]] = []
    start, end = WeightAverage.on_train_start, WeightAverage.on_train_batch_end

    def look(module) -> None:
        parameters = module.ethd.named_parameters()
        found.append({name: safe_get_full_fp32_param(parameter).clone() for name, parameter in parameters})

    def on_train_start(self, trainer, pl_module) -> None:
        look(pl_module)
        start(self, trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        look(pl_module)
        end(self, trainer, pl_module, *rest)

    WeightAverage.on_train_start, WeightAverage.on_train_batch_end = on_train_start, on_train_batch_end
    return found
