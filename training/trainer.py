"""Lightning's Trainer from the trainer's part of a configuration."""

from __future__ import annotations

import logging
import warnings
from datetime import timedelta
from pathlib import Path

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from callbacks.run_checkpoints import StraightToDisk
from configs.training import TrainerConfig
from training.strategies import precision_settings

log = logging.getLogger(__name__)
# What Lightning says of another product and of its own code, which nobody here can act on.
IDLE = ("litlogger", "`weights_only` was not set")
TALKATIVE = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.connectors.checkpoint_connector")


def build_trainer(
    settings: TrainerConfig,
    folder: Path,
    strategy: str | Strategy,
    callbacks: list[Callback],
    loggers: list[Logger],
    validates: bool,
) -> Trainer:
    """The Trainer of a run.

    Args:
        settings: of the trainer.
        folder: run directory.
        strategy: how ranks share the work.
        callbacks: in the order in which they are called.
        loggers: of the run.
        validates: whether there are validation clips.
    """
    if not validates:
        log.warning("%s: its data has no val clips, so nothing is validated", folder)
    precision = dict(precision_settings(settings))
    plugins = precision.pop("plugins", [])
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # Lightning's own saves inside a signal handler
    if settings.strategy != "deepspeed":
        plugins.append(StraightToDisk())
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=int(settings.devices) if settings.devices.isdecimal() else settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy,
        max_steps=settings.max_steps,
        max_time=timedelta(minutes=settings.max_minutes) if settings.max_minutes else None,
        val_check_interval=settings.validate_every,
        check_val_every_n_epoch=None,  # steps count through, whatever the length of the virtual epoch
        limit_val_batches=settings.validation_clips if validates else 0,
        gradient_clip_val=settings.gradient_clip,
        log_every_n_steps=settings.log_every,
        fast_dev_run=settings.fast_dev_run,
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        enable_checkpointing=not settings.fast_dev_run,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=callbacks,
        plugins=plugins,
        logger=loggers,
        **precision,
    )
    if validates and not settings.fast_dev_run:  # Lightning's limit is of one rank; clips are dealt out in turn
        trainer.limit_val_batches = -(-settings.validation_clips // trainer.world_size)
    return trainer


def without_chatter() -> None:
    """Leaves out what Lightning says and nobody here can act on."""
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(_of_use)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _of_use(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in IDLE)
