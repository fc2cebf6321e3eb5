"""From a checked configuration to a trained stage: data, module, callbacks, loggers, Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor

from callbacks.continuation import Continuation
from callbacks.non_finite import NonFiniteGuard
from callbacks.preemption import EXIT_STOPPED, Preempted, Preemption, StopSignals, Wish, leave, say
from callbacks.progress import ProgressBar
from callbacks.run_checkpoints import RunCheckpoints
from callbacks.run_log import RunLog
from callbacks.watchdog import FaultError, Watchdog
from configs.registries import STAGES
from configs.training import TrainConfig
from datamodules.datamodule import ShardDataModule
from datamodules.mixture import datamodule
from datamodules.schema import ShardError
from training.loggers import build_loggers, close_loggers
from training.preflight import check_devices, preflight
from training.provenance import provenance
from training.resume import check_resume, run_folder, store_config
from training.strategies import build_strategy
from training.trainer import build_trainer, without_chatter


@dataclass(frozen=True)
class Run:
    """What a run leaves in memory, for tests and scripts.

    Attributes:
        module: that was trained.
        data: it was trained on.
        trainer: that did it.
        folder: the run directory.
        preempted: whether the queue ended it before its time; it is saved.
    """

    module: LightningModule
    data: ShardDataModule
    trainer: Trainer
    folder: Path
    preempted: bool = False


def fit(config: TrainConfig) -> Run:
    """Trains ``config.stage``; everything written goes to ``output/stage/run_id``.

    Raises:
        ShardError: for shards that are missing, damaged or made by other encoders than ``config.encoders``.
        CheckpointError: for a checkpoint to resume from that is damaged or does not fit, or one that cannot be written.
        PreflightError: when ranks, queue, disk or card do not fit.
        ConfigError: when the run directory cannot be written.
        NonFiniteLossError: when the loss is no longer a number.
        FaultError: when another rank failed or died.
    """
    settings, stage = config.trainer, STAGES.get(config.stage, "stage")()
    check_devices(settings)
    without_chatter()
    seed_everything(config.seed, workers=True, verbose=False)
    folder = run_folder(config)
    signals = StopSignals(config.preemption.requeue_on, config.preemption.stop_on)
    preemption, watchdog = Preemption(signals), Watchdog(config.watchdog, folder)
    data = datamodule(config.data)
    data.setup("fit")
    check_encoder_names(data, config.encoders, config.name)
    resume = check_resume(config, folder)
    module = stage.build(config, data)
    if resume is None:
        stage.start(module)
    callbacks: list[Callback] = [NonFiniteGuard(), watchdog, preemption]
    if not settings.fast_dev_run:
        callbacks += [*stage.callbacks(config, data, folder), *run_callbacks(config, data, folder, watchdog)]
    strategy = build_strategy(settings, config.watchdog)
    trainer = build_trainer(
        settings, folder, strategy, callbacks, build_loggers(config, folder), bool(data.clips["val"])
    )
    preflight(config, stage, trainer, module, folder)
    if trainer.is_global_zero and not settings.fast_dev_run:
        store_config(config, folder)
        print(describe(module, data, folder))
    with signals, watchdog:
        try:
            trainer.fit(module, datamodule=None if stage.own_loaders else data, ckpt_path=resume)
        except Preempted:
            pass
        except Exception as error:
            fault = watchdog.fault_of_another()
            if fault is None:
                raise
            raise FaultError(f"{fault}. Resume with ckpt_path=last") from error
        finally:
            close_loggers(trainer.loggers)  # before the queue may end the processes that still write
        preempted = preemption.agreed is not Wish.GO_ON and trainer.global_step < settings.max_steps
        if preempted and trainer.is_global_zero:
            say(leave(trainer.global_step, preemption.agreed, config.preemption.max_requeues))
    return Run(module, data, trainer, folder, preempted)


def exit_status(run: Run) -> int:
    """0, or 75 for a run to be continued.

    The first process reports for all: srun and other launchers end the others when one fails, and it may still have to
    queue the job again.
    """
    return EXIT_STOPPED if run.preempted and run.trainer.is_global_zero else 0


def check_encoder_names(data: ShardDataModule, encoders: Mapping[str, str], experiment: str) -> None:
    """Refuses shards of another preset than the experiment's.

    Raises:
        ShardError: naming the encoder that differs.
    """
    for kind, wanted in encoders.items():
        found = data.index.encoders[kind].name
        if found != wanted:
            raise ShardError(
                f"{data.config.root}: made by the {kind} encoder {found}, encoders.{kind}={wanted} is expected by "
                f"experiment {experiment}; prepare the data with its preset, or set encoders.{kind}={found}"
            )


def run_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path, watchdog: Watchdog) -> list[Callback]:
    """Checkpoints, the log of the run and its continuation, which every stage has."""
    kept, validate_every = config.checkpoints, config.trainer.validate_every
    every = kept.every or validate_every
    return [
        RunCheckpoints(folder / "checkpoints", every, validate_every, kept.keep, kept.best, watchdog.saved),
        LearningRateMonitor("step"),
        RunLog(lambda: provenance(config, data.indices)),
        *([ProgressBar()] if config.trainer.progress_bar else []),
        Continuation(validate_every),  # last: its validation needs what others set up
    ]


def describe(module: LightningModule, data: ShardDataModule, folder: Path) -> str:
    """A few lines for the start of a run: data, parameters of each part, where results go."""
    counts = ", ".join(f"{len(clips)} {split}" for split, clips in data.clips.items())
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for child, network in module.named_children()
        for name, part in (network.named_children() if child in STAGES else [(child, network)])
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parts.items() if count)
    return f"data        {counts} clips\nparameters  {sizes}\nrun         {folder}"
