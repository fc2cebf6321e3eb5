"""Training of V-AID with one optimizer and one backward pass (EmotiveTalk Eq. 4-8).

    L = alpha InfoNCE + beta ||l_v - l_a||^2 + ||e_v - e_a||^2 + lambda CLUB(l_a, e_a; q fixed) + NLL(q; l_a, e_a fixed)

The last two terms have disjoint gradients, so the networks and q are trained in one step under any strategy.

Shapes: B clips, N frames, d_l and d_e lip and expression widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import Parameter

from configs.models import Reduction, VAIDConfig
from datamodules.clip_windows import ClipBatch, RankBatch
from datamodules.order import seed_of, step_seed
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.accumulation import AccumulatingModule
from lightning_modules.checkpoints import CHECKPOINT_INFO, check_encoders, check_stage
from lightning_modules.parameter_groups import ParameterGroup, adamw, decayed_groups, regroup
from lightning_modules.schedule import LEAST, scheduled
from lightning_modules.vaid.checkpoint import ENCODER_KINDS, STAGE
from lightning_modules.vaid.club import ClubTerms, GaussianConditional, club_terms
from lightning_modules.vaid.conditions import condition
from lightning_modules.vaid.losses import info_nce, masked_mean, squared_error, velocity_error
from lightning_modules.vaid.network import VAID
from lightning_modules.validation import ValidationMeans


class StepLoss(NamedTuple):
    """Loss of one step and its terms.

    Attributes:
        loss: Scalar with gradients.
        parts: name -> detached (B,) or scalar.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Predicted(NamedTuple):
    """Predictions of a batch.

    Attributes:
        l_a: (B, N, d_l) lip latents.
        e_a: (B, N, d_e) expression latents.
        t: (B,) diffusion steps.
    """

    l_a: Tensor
    e_a: Tensor
    t: Tensor


class CachedClub(NamedTuple):
    """CLUB of a batch that is passed in micro-batches.

    Attributes:
        strength: Weight of the estimate in the loss.
        terms: Estimate and negative log-likelihood; the latter with gradients of q.
        gradients: (micro-batches, B, N, d_l + d_e) gradient of the loss with respect to l_a and e_a.
    """

    strength: Tensor | float
    terms: ClubTerms
    gradients: Tensor


class VAIDModule(AccumulatingModule):
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
        predicted = self._predict(batch)
        step = self._clip_losses(batch, predicted)
        if self.q is None:
            return step
        rows = self._pairs(batch, predicted)
        if self._ranks > 1:
            # CLUB pairs frames of different clips, so the mean over ranks would depend on the number of ranks.
            rows = cast(Tensor, self.all_gather(rows, sync_grads=True)).flatten(0, 1)
        strength, terms = self._club(rows)
        loss = step.loss + strength * terms.estimate + terms.likelihood_loss
        return StepLoss(loss, step.parts | _detached(club=terms.estimate, club_nll=terms.likelihood_loss))

    def _predict(self, batch: ClipBatch) -> Predicted:
        """Predicts lip latents, and expression latents from a noisy version."""
        vaid, mask = self.vaid, batch["mask"]
        t, noise, dropped = self._randomness(batch)
        e_v = vaid.expression_scale(batch["expression"])
        e_cond = vaid.expression_scale(condition(batch, self.config))
        around = vaid.di_cte.surroundings(batch["audio"], batch["reference_portrait"], mask)
        e_a = vaid.di_cte(vaid.schedule.add_noise(e_v, noise, t), t, around, e_cond, dropped)
        return Predicted(vaid.lip(batch["audio"], mask), e_a, t)

    def _clip_losses(self, batch: ClipBatch, predicted: Predicted) -> StepLoss:
        """The terms that do not pair clips; their loss is a mean over clips."""
        config, vaid = self.config, self.vaid
        mask, l_a, e_a = batch["mask"], predicted.l_a, predicted.e_a
        l_v, e_v = vaid.lip_scale(batch["lip"]), vaid.expression_scale(batch["expression"])
        contrast = info_nce(l_a, l_v, mask, config.temperature)
        lip_error = squared_error(l_a, l_v, mask, cast(Reduction, config.regression_reduction))
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
        return StepLoss(loss, _detached(**parts))

    def _pairs(self, batch: ClipBatch, predicted: Predicted) -> Tensor:
        """(B, N, d_l + d_e + 2) l_a, e_a, CLUB's weight and the mask of every frame, float32."""
        mask = batch["mask"].float()
        weight = mask
        if self.config.club.weighting == "alpha_bar":
            weight = weight * self.vaid.schedule.level(predicted.t, weight)
        return torch.cat([predicted.l_a.float(), predicted.e_a.float(), weight[..., None], mask[..., None]], dim=-1)

    def _club(self, rows: Tensor) -> tuple[Tensor | float, ClubTerms]:
        """CLUB's weight in the loss, and its terms over the pairs of all clips; ``rows`` as of ``_pairs``."""
        assert self.q is not None
        club, lip = self.config.club, self.dimensions.lip_width
        rows = rows[rows[..., -1] > 0]
        weight = rows[:, -2].detach()
        terms = club_terms(self.q, rows[:, :lip], rows[:, lip:-2], weight)
        return club.weight * weight.mean() if self.global_step >= club.warmup else 0.0, terms

    @property
    def _ranks(self) -> int:
        return 1 if self._trainer is None else self.trainer.world_size

    def _accumulated(self, batches: list[ClipBatch]) -> StepLoss:
        """Back-propagates the micro-batches of this rank; returns the last term of the loss, and the values to log.

        CLUB's pairs are those of the global batch (gradient caching, Gao et al. 2021, arXiv 2101.06983): a first pass
        without gradients predicts all l_a and e_a, from which the gradient of CLUB with respect to them is computed; a
        second pass propagates it through each micro-batch.
        """
        steps: list[StepLoss] = []
        cached = None if self.q is None else self._cached_club(batches)

        def terms() -> Iterator[Tensor]:
            for number, batch in enumerate(batches):
                predicted = self._predict(batch)
                steps.append(self._clip_losses(batch, predicted))
                loss = steps[-1].loss / len(batches)
                if cached is not None:
                    loss = loss + (cached.gradients[number] * self._pairs(batch, predicted)[..., :-2]).sum()
                    if number == len(batches) - 1:
                        loss = loss + cached.terms.likelihood_loss
                yield loss

        last = self.accumulate(terms(), len(batches))
        together = {"loss": torch.stack([step.loss.detach() for step in steps]).mean()}
        parts = {name: torch.cat([step.parts[name] for step in steps]) for name in steps[0].parts}
        if cached is not None:
            estimate, likelihood = cached.terms
            together["loss"] = together["loss"] + cached.strength * estimate + likelihood
            parts |= _detached(club=estimate, club_nll=likelihood)
        return StepLoss(last, _detached(**together) | parts)

    def _cached_club(self, batches: list[ClipBatch]) -> CachedClub:
        """CLUB over the pairs of all ranks, and its gradients with respect to this rank's l_a and e_a."""
        with torch.no_grad():
            own = torch.stack([self._pairs(batch, self._predict(batch)) for batch in batches])
        own.requires_grad_()
        rows = own.flatten(0, 1)
        if self._ranks > 1:
            others = cast(Tensor, self.all_gather(rows.detach()))
            rows = torch.cat([*others[: self.global_rank], rows, *others[self.global_rank + 1 :]])
        strength, terms = self._club(rows)
        # The strategy averages gradients over ranks, but each rank holds the gradients of its own rows only.
        (gradients,) = torch.autograd.grad(self._ranks * strength * terms.estimate, own)
        return CachedClub(strength, terms, gradients[..., :-2])

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

    def training_step(self, batch: RankBatch, batch_idx: int) -> Tensor:
        """Returns the last term of a batch's loss, see ``accumulate``; logs the loss and its terms under ``train/``."""
        step = self._accumulated(batch) if isinstance(batch, list) else self.losses(batch)
        values = {"loss": step.loss.detach()} | {name: part.mean() for name, part in step.parts.items()}
        for name, mean in self.global_means([values]).items():
            shown = name in ("loss", "lip_near1", "lip_mse", "expression_mse", "club")
            self.log(f"train/{name}", mean, prog_bar=shown, batch_size=1)
        return step.loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Computes errors of lips and sampled expressions; skips batches of repeated clips."""
        if not bool(batch["valid"].any()):
            return
        mask, vaid = batch["mask"], self.vaid
        l_v, e_v = vaid.lip_scale(batch["lip"]), vaid.expression_scale(batch["expression"])
        e_cond = vaid.expression_scale(condition(batch, self.config))
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
        """AdamW over ``parameter_groups``."""
        config, groups = self.config, self.parameter_groups()
        optimizer = adamw(groups, dict(self.named_parameters()))
        follow = [group.scheduled for group in groups]
        return scheduled(optimizer, self.max_steps, config.lr_warmup, LEAST[config.lr_decay], follow)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Groups of the optimizer: the networks with and without weight decay, and q with a constant rate."""
        config = self.config
        groups = decayed_groups(self.vaid.named_parameters("vaid"), config.lr, config.weight_decay)
        if self.q is not None:
            names = tuple(name for name, _ in self.q.named_parameters("q"))
            groups.append(ParameterGroup(names, config.club.lr, 0.0, scheduled=False))
        return groups

    def averaged_parameters(self) -> dict[str, Parameter]:
        """Parameters of Di-CTE by their names in ``VAID``, for ``WeightAverage``."""
        return dict(self.vaid.di_cte.named_parameters("di_cte"))

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
        networks = [name for name, _ in self.vaid.named_parameters("vaid")]
        q = [] if self.q is None else [[name for name, _ in self.q.named_parameters("q")]]
        regroup(checkpoint, [networks, *q], self.parameter_groups())


def _detached(**values: Tensor) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}
