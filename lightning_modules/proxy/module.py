"""Training of a proxy network, which is written to one safetensors file at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from configs.errors import ConfigError
from configs.proxy import ProxyConfig
from datamodules.clip_windows import ClipBatch
from datamodules.datamodule import ShardDataModule
from lightning_modules.proxy.proxy_tasks import AppearanceTask, ExpressionTask, Parts, SyncTask
from lightning_modules.schedule import scheduled
from lightning_modules.validation import ValidationMeans
from metrics.networks.proxy import ProxyExpression, ProxyImage, ProxyInfo, ProxyVideo, new_proxy, save_proxy
from metrics.networks.syncnet import SyncNet
from runtime.errors import UserError


class ProxyModule(LightningModule):
    """Training step, optimizer and logging of a proxy network. Writes the network's file when training ends.

    Args:
        config: Configuration of network and optimizer.
        task: Network with its training objective.
        info: Description of the network and its training data, still without scores.
        max_steps: Number of training steps, for the learning rate schedule.
    """

    def __init__(self, config: ProxyConfig, task: nn.Module, info: ProxyInfo, max_steps: int) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.info = info
        self.max_steps = max_steps
        self._validated = ValidationMeans()

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch; logs it and the scores under ``train/``."""
        parts: Parts = self.task(batch)
        self.log("train/loss", parts.loss.detach(), prog_bar=True, batch_size=len(batch["key"]))
        for name, score in parts.scores.items():
            self.log(f"train/{name}", score, prog_bar=True, batch_size=len(batch["key"]))
        return parts.loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Computes loss and scores on held-out speakers; skips batches of repeated clips."""
        if not bool(batch["valid"].any()):
            return
        parts: Parts = self.task(batch)
        self._validated.add({"loss": parts.loss, **parts.scores}, batch["valid"])

    def on_validation_epoch_end(self) -> None:
        """Logs the means over clips under ``val/``."""
        self._validated.log(self)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with linear warmup over a tenth of the steps and cosine decay to zero."""
        config = self.config
        optimizer = torch.optim.AdamW(self.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        return scheduled(optimizer, self.max_steps, self.max_steps // 10, 0.0)

    def on_fit_end(self) -> None:
        """Writes the network into the run directory; skipped in a ``fast_dev_run``."""
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", False):
            self.write(Path(self.trainer.default_root_dir))

    def write(self, folder: Path) -> Path:
        """Writes the file that evaluate.py reads, with the last validation scores, and returns its path."""
        metrics = self.trainer.callback_metrics
        scores = {
            name.removeprefix("val/"): round(float(value), 6) for name, value in metrics.items() if "val/" in name
        }
        path = folder / f"proxy_{self.info.kind}.safetensors"
        network: Any = self.task.network
        save_proxy(path, network, ProxyInfo(**{**vars(self.info), "scores": scores}))
        return path


def build_proxy(config: ProxyConfig, data: ShardDataModule, max_steps: int, seed: int = 0) -> ProxyModule:
    """Builds an untrained network of the configured kind with its training objective.

    Args:
        config: Configuration of network and optimizer.
        data: Data module of the training shards, set up.
        max_steps: Number of training steps.
        seed: Seed of weights and augmentation.

    Raises:
        UserError: If clips have no stored video, or the shards lack a configured factor.
        ConfigError: If ``model.options`` do not match the kind of network.
    """
    clips = data.clips["train"]
    if lacking := [clip.key for clip in clips if "video.mp4" not in clip.entry.members]:
        raise UserError(
            f"{data.config.root}: {len(lacking)} of {len(clips)} training clips have no stored video (the first is "
            f"{lacking[0]}); prepare them with store_video=all"
        )
    options = dict(config.options)
    if config.kind == "expression":
        options["dimensions"] = len(config.factors)
    try:
        network = new_proxy(config.kind, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.options={options}: not options of model.kind={config.kind} ({error})") from error
    info = ProxyInfo(
        kind=config.kind,
        options=options,
        dataset=data.index.dataset,
        speakers=len({clip.entry.speaker for clip in clips}),
        clips=len(clips),
        steps=max_steps,
        seed=seed,
    )
    task: nn.Module
    if isinstance(network, SyncNet):
        task = SyncTask(network, config, seed)
    elif isinstance(network, ProxyExpression):
        task = ExpressionTask(network, config, data)
    else:
        assert isinstance(network, ProxyImage | ProxyVideo)
        task = AppearanceTask(network, data)
    return ProxyModule(config, task, info, max_steps)
