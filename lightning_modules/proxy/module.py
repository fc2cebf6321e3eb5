"""Training of a proxy network: one AdamW, and at the end one safetensors file with its info."""

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
from metrics.networks.proxy import ProxyExpression, ProxyImage, ProxyInfo, ProxyVideo, new_proxy, save_proxy
from metrics.networks.syncnet import SyncNet
from runtime.errors import UserError


class ProxyModule(LightningModule):
    """The step, the optimizer and the logging; the file is written when training ends.

    Args:
        config: network and optimizer.
        task: what it learns.
        info: of the network, without its scores.
        max_steps: of training, for the learning rate.
    """

    def __init__(self, config: ProxyConfig, task: nn.Module, info: ProxyInfo, max_steps: int) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.info = info
        self.max_steps = max_steps

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        parts: Parts = self.task(batch)
        self.log("train/loss", parts.loss.detach(), prog_bar=True, batch_size=len(batch["key"]))
        for name, score in parts.scores.items():
            self.log(f"train/{name}", score, prog_bar=True, batch_size=len(batch["key"]))
        return parts.loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """The same on people training never saw, logged under ``val/``; repeats are left out."""
        if not bool(batch["valid"].all()):
            return
        parts: Parts = self.task(batch)
        for name, score in {"loss": parts.loss, **parts.scores}.items():
            self.log(f"val/{name}", score, on_epoch=True, batch_size=len(batch["key"]), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; the rate rises over a tenth of the steps and falls to zero along a cosine."""
        config = self.config
        optimizer = torch.optim.AdamW(self.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        return scheduled(optimizer, self.max_steps, self.max_steps // 10, 0.0)

    def on_fit_end(self) -> None:
        """Writes ``proxy_KIND.safetensors`` into the run's folder, unless this was a trial step."""
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", False):
            self.write(Path(self.trainer.default_root_dir))

    def write(self, folder: Path) -> Path:
        """Writes the file evaluate.py takes, and returns its path."""
        metrics = self.trainer.callback_metrics
        scores = {
            name.removeprefix("val/"): round(float(value), 6) for name, value in metrics.items() if "val/" in name
        }
        path = folder / f"proxy_{self.info.kind}.safetensors"
        network: Any = self.task.network
        save_proxy(path, network, ProxyInfo(**{**vars(self.info), "scores": scores}))
        return path


def build_proxy(config: ProxyConfig, data: ShardDataModule, max_steps: int, seed: int = 0) -> ProxyModule:
    """A new network of the kind asked for, with what it learns from these shards.

    Raises:
        UserError: if the shards lack what the kind needs.
    """
    clips = data.clips["train"]
    if lacking := [clip.key for clip in clips if "video.mp4" not in clip.entry.members]:
        raise UserError(
            f"{data.config.root}: {len(lacking)} of {len(clips)} training clips have no pixels (the first is "
            f"{lacking[0]}); prepare them with store_video=all"
        )
    options = dict(config.options)
    if config.kind == "expression":
        options["dimensions"] = len(config.factors)
    try:
        network = new_proxy(config.kind, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.options={options}: fit no network of model.kind={config.kind} ({error})") from error
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
