"""Training of ETHD: denoises video latents under the driving signals of a frozen V-AID (EmotiveTalk §3.4, Eq. 11).

Random numbers depend only on the sample's key and draw, or on the step. They and the loss are float32; only the network
runs in the training precision.

Shapes: B clips, F frames, C x h x w latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import Parameter

from configs.models import Weighting
from datamodules.clip_windows import ClipBatch, RankBatch, micro_batches
from datamodules.order import seed_of, step_seed
from diffusion.ddim import seeded_noise
from diffusion.parameterization import noise_input, stratified_steps, velocity, velocity_loss
from lightning_modules.accumulation import AccumulatingModule
from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError, check_encoders, check_stage
from lightning_modules.ethd.checkpoint import STAGE, EthdInfo, build_ethd, check_earlier, noise_schedule, with_overlap
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.ethd.svd_weights import is_new
from lightning_modules.parameter_groups import ParameterGroup, adamw, decayed_groups, regroup
from lightning_modules.schedule import LEAST, scheduled
from lightning_modules.vaid.conditions import condition
from lightning_modules.vaid.network import VAID
from lightning_modules.validation import ValidationMeans

VALIDATION_LEVELS = 4  # number of noise levels at which a validation clip is denoised


@dataclass(frozen=True)
class Example:
    """Float32 inputs of the network for one batch.

    Attributes:
        x0: (B, F, C, h, w) clean latents, scaled.
        noise: (B, F, C, h, w) Gaussian noise.
        reference: (B, C, h, w) latent of the portrait.
        signals: Driving signals of the frames.
    """

    x0: Tensor
    noise: Tensor
    reference: Tensor
    signals: DrivingSignals


class EthdModule(AccumulatingModule):
    """Training step, optimizer and logging of ETHD.

    Args:
        info: Configuration of the network and description of its data.
        vaid: Frozen V-AID. Not a submodule, so it is never checkpointed, optimised, averaged or cast.
        max_steps: Number of training steps, for the learning rate schedule.
        batch_size: Clips per step over all ranks.
        seed: Seed of the training noise.

    Attributes:
        ethd: The network.
    """

    def __init__(self, info: EthdInfo, vaid: VAID, max_steps: int = 1, batch_size: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.info = replace(info, config=with_overlap(info.config))
        self.config = self.info.config
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.seed = seed
        self.schedule = noise_schedule(self.config)
        self._validated = ValidationMeans()
        self._frozen = (vaid.eval().requires_grad_(False),)  # a tuple keeps torch from registering a submodule
        self.ethd = build_ethd(self.config, info.dimensions, info.frame_side)

    @property
    def vaid(self) -> VAID:
        """The frozen V-AID."""
        return self._frozen[0]

    def setup(self, stage: str) -> None:
        """Checks that all ranks read the same V-AID, and moves it to the device of the batches.

        Raises:
            CheckpointError: If the file changed while the ranks read it.
        """
        if self._trainer is not None:
            first = self.trainer.strategy.broadcast(self.info.vaid_sha256)
            if first != self.info.vaid_sha256:
                raise CheckpointError(f"vaid={self.info.vaid}: changed while the ranks read it; start the run again")
        self.vaid.to(self.device)

    def averaged_parameters(self) -> dict[str, Parameter]:
        """Parameters of the network by name, for ``WeightAverage``."""
        return dict(self.ethd.named_parameters())

    def parameter_groups(self) -> list[ParameterGroup]:
        """Groups of the optimizer: layers that SVD has and new ones, each with and without weight decay."""
        config = self.config
        named = list(self.ethd.named_parameters())
        if config.lr_new is None:
            return decayed_groups(named, config.lr, config.weight_decay)
        known = [(name, weight) for name, weight in named if name.startswith("unet.") and not is_new(name)]
        names = {name for name, _ in known}
        new = [(name, weight) for name, weight in named if name not in names]
        return [
            *decayed_groups(known, config.lr, config.weight_decay),
            *decayed_groups(new, config.lr_new, config.weight_decay),
        ]

    def training_step(self, batch: RankBatch, batch_idx: int) -> Tensor:
        """Returns the last term of a batch's loss, see ``accumulate``; logs loss and errors under ``train/``."""
        parts = micro_batches(batch)
        values: list[dict[str, Tensor]] = []
        loss = self.accumulate((self._part_loss(part, values) / len(parts) for part in parts), len(parts))
        means = self.global_means(values)
        frames, full = means.pop("frames"), means.pop("full_windows")
        for name, mean in (means | {"full_windows": full / frames}).items():
            self.log(f"train/{name}", mean, prog_bar=name == "loss", batch_size=1)
        return loss

    def _part_loss(self, batch: ClipBatch, values: list[dict[str, Tensor]]) -> Tensor:
        """Loss of a micro-batch; appends the values to log."""
        with single_precision(self.device):
            seeds = self._seeds(batch)
            example = self.example(batch, seeds, self._driving_expression(batch, seeds))
            steps = self._diffusion_steps(batch)
        loss, errors = self.losses(example, steps)
        frames = batch["frames"].to(loss)
        values.append(
            {
                "loss": loss.detach(),
                **{name: error.mean() for name, error in errors.items()},
                "frames": frames.sum(),
                "full_windows": frames[frames >= self.config.window].sum(),
            }
        )
        return loss

    def losses(self, example: Example, steps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the configured loss, and the squared errors of v and x0.

        Args:
            example: Inputs of the network.
            steps: (B,) diffusion steps.

        Returns:
            The mean loss, and name -> (B,) detached errors.
        """
        config = self.config
        level = self.schedule.level(steps, example.x0)
        noisy = self.schedule.add_noise(example.x0, example.noise, steps)
        weights = next(self.ethd.parameters())
        v = self.ethd(noisy.to(weights.dtype), noise_input(level.flatten()), example.reference, example.signals)
        with single_precision(self.device):
            loss = velocity_loss(
                v, example.x0, example.noise, level, cast(Weighting, config.loss), config.snr_gamma
            ).mean()
            error = (v.detach().float() - velocity(example.x0, example.noise, level)).square().flatten(1).mean(1)
            return loss, {"v_mse": error, "x0_mse": (1 - level.flatten()) * error}

    def example(self, batch: ClipBatch, seeds: list[int], e_dri: Tensor) -> Example:
        """Prepares the network's inputs.

        Args:
            batch: Batch with latent, boxes, expression, audio and their references.
            seeds: One seed per clip.
            e_dri: (B, F, d_e) standardised driving expression.
        """
        config, scale, vaid = self.config, self.info.latents, self.vaid
        x0 = scale.scaled(batch["latent"])
        noise = torch.stack([seeded_noise(tuple(x0.shape[1:]), seed_of("noise", seed) >> 1) for seed in seeds])
        reference = scale.reference(batch["reference_latent"])
        if self.training and config.reference_noise:
            disturbed = [
                seeded_noise(tuple(reference.shape[1:]), seed_of("reference", seed) >> 1).to(reference)
                for seed in seeds
            ]
            reference = reference + config.reference_noise * torch.stack(disturbed)
        audio = batch["audio"].float()
        with torch.no_grad():
            signals = DrivingSignals(
                boxes=batch["reference_boxes"].float(),  # generation has those of the portrait alone, too
                e_ref=vaid.expression_scale(batch["reference_expression"].float()),
                lip=vaid.lip(audio),
                e_dri=e_dri,
                e_cond=vaid.expression_scale(condition(batch, vaid.config).float()),
                audio=audio,
                dropped=self._dropped(seeds) if self.training else None,
            )
        return Example(x0, noise.to(x0), reference, signals)

    def _seeds(self, batch: ClipBatch) -> list[int]:
        """One seed per clip, derived from its key and draw."""
        draws = zip(batch["key"], batch["draw"].tolist(), strict=True)
        return [seed_of(self.seed, step_seed(key, draw)) for key, draw in draws]

    def _driving_expression(self, batch: ClipBatch, seeds: list[int]) -> Tensor:
        """(B, F, d_e) e_dri: the video's expression e_v, or e_a predicted by V-AID for a random share of the clips."""
        config, vaid = self.config, self.vaid
        e_dri = vaid.expression_scale(batch["expression"].float())
        rows = [i for i, seed in enumerate(seeds) if share("e_dri", seed) < config.audio_expression_probability]
        if rows and self._reads_e_dri:
            e_dri[rows] = self._sampled_expression(batch, seeds, rows).to(e_dri)
        return e_dri

    @property
    def _reads_e_dri(self) -> bool:
        return self.config.variant in ("full", "wo_lip")

    def _sampled_expression(self, batch: ClipBatch, seeds: list[int], rows: list[int]) -> Tensor:
        """(R, F, d_e) e_a that V-AID samples for the clips ``rows`` of a batch."""
        return self.vaid.sample_expression(
            batch["audio"][rows].float(),
            batch["reference_portrait"][rows],
            self.vaid.expression_scale(condition(batch, self.vaid.config)[rows].float()),
            [seed_of("e_a", seeds[i]) >> 1 for i in rows],
            steps=self.config.expression_steps,
        )

    def _dropped(self, seeds: list[int]) -> Tensor | None:
        """(B, 2) bool, True for clips without lips, and for those without expression; None without dropout."""
        chances = {"lip": self.config.lip_dropout, "expression": self.config.expression_dropout}
        if not any(chances.values()):
            return None
        dropped = [[share(f"{part}_dropout", seed) < chance for part, chance in chances.items()] for seed in seeds]
        return torch.tensor(dropped, device=self.device)

    def _diffusion_steps(self, batch: ClipBatch) -> Tensor:
        """(B,) random diffusion steps, stratified over the global batch."""
        places = batch["draw"].cpu() % self.batch_size
        seed = seed_of(self.seed, "t", batch["step"]) >> 1
        return stratified_steps(len(self.schedule), places, self.batch_size, seed)

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Computes errors at fixed noise levels, driven by e_v and, with the suffix ``_e_a``, by a sampled e_a.

        Skips batches of repeated clips.
        """
        valid = batch["valid"]
        if not bool(valid.any()):
            return
        with single_precision(self.device):
            seeds = [seed_of("validation", key) for key in batch["key"]]
            example = self.example(batch, seeds, self.vaid.expression_scale(batch["expression"].float()))
            driven = {"": example.signals}
            if self._reads_e_dri:
                e_a = self._sampled_expression(batch, seeds, list(range(len(seeds))))
                driven["_e_a"] = replace(example.signals, e_dri=e_a)
        total = len(self.schedule)
        for suffix, signals in driven.items():
            for place in range(VALIDATION_LEVELS):
                steps = torch.full((len(seeds),), (2 * place + 1) * total // (2 * VALIDATION_LEVELS))
                loss, errors = self.losses(replace(example, signals=signals), steps)
                self._validated.add(
                    {f"{name}{suffix}": value for name, value in {"loss": loss, **errors}.items()}, valid
                )

    def on_validation_epoch_end(self) -> None:
        """Logs the means over clips and noise levels under ``val/``."""
        self._validated.log(self)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over ``parameter_groups``."""
        config = self.config
        optimizer = adamw(self.parameter_groups(), dict(self.ethd.named_parameters()))
        return scheduled(optimizer, self.max_steps, config.lr_warmup, LEAST[config.lr_decay])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the information that is needed to rebuild the network from the checkpoint alone."""
        checkpoint[CHECKPOINT_INFO] = self.info.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is of the same stage, encoders and V-AID."""
        check_stage(checkpoint, STAGE, "ckpt_path")
        check_earlier(checkpoint[CHECKPOINT_INFO]["config"], "ckpt_path")
        info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
        check_encoders(info.encoders, self.info.encoders, "ckpt_path")
        if info.vaid_sha256 != self.info.vaid_sha256:
            raise CheckpointError(
                f"ckpt_path: was trained with a V-AID of sha256 {info.vaid_sha256[:12]}..., found "
                f"{self.info.vaid_sha256[:12]}...; resume with that one, or start a new run with init=RUN"
            )
        regroup(checkpoint, [[name for name, _ in self.ethd.named_parameters()]], self.parameter_groups())


def share(*parts: object) -> float:
    """Pseudo-random number in [0, 1), a hash of ``parts``."""
    return seed_of(*parts) / 2**64


@contextmanager
def single_precision(device: torch.device) -> Iterator[None]:
    """Context in which float32 is the default type and autocast is disabled."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_default_dtype(before)
