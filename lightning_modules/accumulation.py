"""Gradients of a batch that is too large for one forward pass: the sum over micro-batches, in one training step.

Every micro-batch is passed forward and backward before the next, so only one is in memory. The step stays one batch of
the loader and one optimizer step: callbacks, logs, schedules and checkpoints do not count micro-batches. Ranks
exchange gradients in the backward pass of the last one; under ZeRO-2, which splits gradients, in every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer


class AccumulatingModule(LightningModule):
    """Base class of modules whose training step accepts a list of micro-batches."""

    _accumulates = False  # in the current step

    def accumulate(self, losses: Iterable[Tensor], count: int) -> Tensor:
        """Back-propagates all losses except the last, which Lightning back-propagates.

        Args:
            losses: Terms of the loss, one per micro-batch, to be summed. Each is computed after the backward pass of
                the one before.
            count: Number of losses.

        Returns:
            The last term.
        """
        self._accumulates = False
        terms = iter(losses)
        if count > 1:
            trainer = self.trainer
            self.optimizer_zero_grad(trainer.current_epoch, 0, trainer.optimizers[0])
            self._accumulates = True
            self._set_boundary(False)
            for _ in range(count - 1):
                loss = next(terms)
                with torch.autocast(self.device.type, enabled=False):
                    trainer.strategy.backward(loss, None)
                del loss  # and with it the graph
            self._set_boundary(True)
        return next(terms)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Keeps the gradients of the first micro-batches. Lightning calls it after the training step."""
        if not self._accumulates:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm of the gradients; DeepSpeed does so within its step.

        Lightning clips no gradients of a fused optimizer under mixed precision, in case it scales float16 gradients.
        Precisions here scale none.
        """
        if gradient_clip_val and getattr(self.trainer.strategy, "deepspeed_engine", None) is None:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def _set_boundary(self, last: bool) -> None:
        """Tells DeepSpeed whether the optimizer's update follows the next backward pass."""
        engine: Any = getattr(self.trainer.strategy, "deepspeed_engine", None)
        if engine is not None:
            engine.set_gradient_accumulation_boundary(last)

    def global_means(self, values: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Averages values over the global batch, so that curves do not depend on the number of ranks.

        Args:
            values: name -> scalar of each micro-batch. All have the same number of clips.
        """
        means = torch.stack([torch.stack([value.detach().float() for value in one.values()]) for one in values]).mean(0)
        if self._trainer is not None:
            means = cast(Tensor, self.trainer.strategy.reduce(means, reduce_op="mean"))  # a single collective
        return dict(zip(values[0], means, strict=True))
