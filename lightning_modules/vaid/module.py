"""Training of V-AID with one optimizer and one backward pass (EmotiveTalk Eq. 4-8).

    L = alpha InfoNCE + beta ||l_v - l_a||^2 + ||e_v - e_a||^2 + lambda CLUB(l_a, e_a; q fixed) + NLL(q; l_a, e_a fixed)

The last two terms have disjoint gradients, so the networks and q are trained in one step under any strategy.

Shapes: B clips, N frames, d_l and d_e lip and expression widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from configs.training import Reduction, VAIDConfig
from datamodules.clip_windows import ClipBatch
from datamodules.order import seed_of, step_seed
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, check_encoders, check_stage
from lightning_modules.schedule import LEAST, scheduled
from lightning_modules.vaid.checkpoint import STAGE
from lightning_modules.vaid.club import GaussianConditional, club_terms
from lightning_modules.vaid.losses import info_nce, masked_mean, squared_error, velocity_error
from lightning_modules.vaid.network import VAID
from lightning_modules.validation import ValidationMeans

ENCODER_KINDS = ("audio", "motion")  # V-AID does not depend on codec and landmarks


class StepLoss(NamedTuple):
    """Loss of one step and its terms.

    Attributes:
        loss: Scalar with gradients.
        parts: name -> detached (B,) or scalar.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class VAIDModule(LightningModule):
    """Training step, optimizer and logging of V-AID.

    Args:
        config: Configuration of networks, losses and optimizer.
        dimensions: Feature widths of the data.
        encoders: Identities of the data's encoders; those of audio and motion are kept.
        max_steps: Number of training steps, for the learning rate schedule.
        seed: Seed of the training noise.

    Attributes:
        vaid: The networks that stage two uses.
        q: Conditional of CLUB; None if its weight is 0.
    """

    def __init__(
        self,
        config: VAIDConfig,
        dimensions: Dimensions,
        encoders: Mapping[str, Identity],
        max_steps: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.dimensions = dimensions
        self.encoders = {kind: encoders[kind] for kind in ENCODER_KINDS}
        self.max_steps = max_steps
        self.seed = seed
        self._validated = ValidationMeans()
        self.vaid = VAID(config, dimensions)
        self.q = (
            GaussianConditional(dimensions.lip_width, dimensions.expression_width, config.club.hidden)
            if config.club.weight
            else None
        )

    def losses(self, batch: ClipBatch) -> StepLoss:
        """Computes the loss of a batch. Random numbers depend only on each clip's key and draw."""
        config, vaid = self.config, self.vaid
        mask = batch["mask"]
        l_v, e_v = vaid.lip_scale(batch["lip"]), vaid.expression_scale(batch["expression"])
        e_cond = vaid.expression_scale(batch["first_expression"])

        l_a = vaid.lip(batch["audio"], mask)
        contrast = info_nce(l_a, l_v, mask, config.temperature)
        lip_error = squared_error(l_a, l_v, mask, cast(Reduction, config.regression_reduction))

        t, noise, dropped = self._randomness(batch)
        around = vaid.di_cte.surroundings(batch["audio"], batch["reference_portrait"], mask)
        e_a = vaid.di_cte(vaid.schedule.add_noise(e_v, noise, t), t, around, e_cond, dropped)
        expression_error = squared_error(e_a, e_v, mask)

        loss = (config.contrastive * contrast.loss + config.regression * lip_error + expression_error).mean()
        parts = {
            "lip_nce": contrast.loss,
            "lip_bound": contrast.bound,
            "lip_top1": contrast.top1,
            "lip_near1": contrast.near1,
            "lip_mse": masked_mean((l_a.float() - l_v.float()).square().mean(-1), mask),
            "expression_mse": expression_error,
        }
        if config.velocity:
            parts["expression_velocity"] = velocity_error(e_a, e_v, mask)
            loss = loss + config.velocity * parts["expression_velocity"].mean()
        if self.q is not None:
            loss = loss + self._decoupling(l_a, e_a, mask, t, parts)
        return StepLoss(loss, {name: part.detach() for name, part in parts.items()})

    def _decoupling(self, l_a: Tensor, e_a: Tensor, mask: Tensor, t: Tensor, parts: dict[str, Tensor]) -> Tensor:
        """CLUB's terms of the loss, over the pairs of all ranks; adds them to ``parts``."""
        assert self.q is not None
        club = self.config.club
        weight = mask.float()
        if club.weighting == "alpha_bar":
            weight = weight * self.vaid.schedule.level(t, weight)
        rows = torch.cat([l_a.float(), e_a.float(), weight[..., None], mask.float()[..., None]], dim=-1)
        if self._trainer is not None and self.trainer.world_size > 1:
            # CLUB pairs frames of different clips, so the mean over ranks would depend on the number of ranks.
            rows = cast(Tensor, self.all_gather(rows, sync_grads=True)).flatten(0, 1)
        rows = rows[rows[..., -1] > 0]
        l_a, e_a, weight = rows[:, : l_a.shape[-1]], rows[:, l_a.shape[-1] : -2], rows[:, -2]
        terms = club_terms(self.q, l_a, e_a, weight)
        parts["club"], parts["club_nll"] = terms
        strength = club.weight * weight.mean().detach() if self.global_step >= club.warmup else 0.0
        return strength * terms.estimate + terms.likelihood_loss

    def _randomness(self, batch: ClipBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B,) diffusion steps, (B, N, d_e) noise and, with condition dropout, (B,) True for clips without e_cond."""
        config, device = self.config, batch["mask"].device
        seeds = [
            seed_of(self.seed, step_seed(key, draw)) >> 1
            for key, draw in zip(batch["key"], batch["draw"].tolist(), strict=True)
        ]
        t = torch.tensor([seed_of("t", seed) * config.diffusion_steps >> 64 for seed in seeds])
        dropped = None
        if config.condition_dropout:
            chance = torch.tensor([seed_of("condition", seed) / 2**64 for seed in seeds])
            dropped = (chance < config.condition_dropout).to(device)
        return t.to(device), self._noise(seeds, batch["mask"]), dropped

    def _noise(self, seeds: list[int], mask: Tensor) -> Tensor:
        return self.vaid.sequence_noise(seeds, mask.shape[1], mask.sum(1).tolist()).to(mask.device)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch; logs it and its terms under ``train/``."""
        step = self.losses(batch)
        values = {"loss": step.loss.detach()} | {name: part.mean() for name, part in step.parts.items()}
        # Averaged over the global batch, so that curves do not depend on the number of ranks; a single collective.
        means = self.trainer.strategy.reduce(torch.stack(list(values.values())), reduce_op="mean")
        for name, mean in zip(values, means, strict=True):
            shown = name in ("loss", "lip_near1", "lip_mse", "expression_mse", "club")
            self.log(f"train/{name}", mean, prog_bar=shown, batch_size=len(batch["mask"]))
        return step.loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Computes errors of lips and sampled expressions; skips batches of repeated clips."""
        if not bool(batch["valid"].any()):
            return
        mask, vaid = batch["mask"], self.vaid
        l_v, e_v = vaid.lip_scale(batch["lip"]), vaid.expression_scale(batch["expression"])
        e_cond = vaid.expression_scale(batch["first_expression"])
        l_a = vaid.lip(batch["audio"], mask)
        seeds = [seed_of("validation", key) >> 1 for key in batch["key"]]
        e_a = vaid.sample_expression(batch["audio"], batch["reference_portrait"], e_cond, seeds, mask)
        contrast = info_nce(l_a, l_v, mask, self.config.temperature)
        values = {
            "lip_nce": contrast.loss,
            "lip_top1": contrast.top1,
            "lip_near1": contrast.near1,
            "lip_mse": squared_error(l_a, l_v, mask),
            "expression_mse": squared_error(e_a, e_v, mask),
            "expression_mse_repeated": squared_error(e_cond[:, None].expand_as(e_v), e_v, mask),
        }
        self._validated.add(values, batch["valid"])

    def on_validation_epoch_end(self) -> None:
        """Logs the means over clips under ``val/``."""
        self._validated.log(self)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with one parameter group for the networks and one for q."""
        config = self.config
        groups: list[dict[str, Any]] = [{"params": list(self.vaid.parameters()), "lr": config.lr}]
        if self.q is not None:
            groups.append({"params": list(self.q.parameters()), "lr": config.club.lr, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        return scheduled(optimizer, self.max_steps, config.lr_warmup, LEAST[config.lr_decay])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the information that is needed to rebuild the networks from the checkpoint alone."""
        checkpoint[CHECKPOINT_INFO] = {
            "stage": STAGE,
            "config": asdict(self.config),
            "dimensions": asdict(self.dimensions),
            "encoders": {kind: asdict(identity) for kind, identity in self.encoders.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is of the same stage and encoders."""
        check_stage(checkpoint, STAGE, "ckpt_path")
        found = {kind: Identity(**raw) for kind, raw in checkpoint[CHECKPOINT_INFO]["encoders"].items()}
        check_encoders(found, self.encoders, "ckpt_path")
