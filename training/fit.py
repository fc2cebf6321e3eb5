"""Trains a stage from a validated configuration: builds data, module, callbacks, loggers and Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from callbacks.continuation import Continuation, ContinuedLoop
from callbacks.logs import ProgressBar
from callbacks.non_finite import NonFiniteGuard
from callbacks.preemption import EXIT_STOPPED, Preempted, Preemption, StopRequest, StopSignals, leave, say
from callbacks.run_checkpoints import RunCheckpoints, StraightToDisk
from callbacks.run_log import RunLog
from callbacks.watchdog import Watchdog
from configs.registries import STAGES
from configs.training import TrainConfig, TrainerConfig
from datamodules.datamodule import ShardDataModule
from datamodules.loader_processes import fault_of_workers
from datamodules.mixture import datamodule
from datamodules.schema import ShardError
from runtime.ending import end_with_launcher
from runtime.errors import UserError
from runtime.files import sha256_of, write_whole
from runtime.health import State, machine_findings
from runtime.locks import locked
from training.loggers import build_loggers, close_loggers
from training.preflight import check_devices, preflight
from training.resume import CONFIG_FILE, INIT_FILE, check_resume, require_own_run, resume_path, run_folder, store_config
from training.run_health import LOCK, run_findings
from training.strategies import build_strategy, float32_products, precision_settings

log = logging.getLogger(__name__)
# Messages of Lightning that advertise a product or concern its own code.
IGNORED_MESSAGES = ("litlogger", "`weights_only` was not set")
FILTERED_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
)


STEPS_SUMMARISED = 200  # steps whose windows are summarised at the start
HARDLY_FULL = 0.1  # share of frames in full windows below which a warning is shown


@dataclass(frozen=True)
class Run:
    """Objects of a finished run, for tests and scripts.

    Attributes:
        module: Trained module.
        data: Training data module.
        trainer: Lightning Trainer.
        folder: Run directory.
        preempted: Whether a signal stopped the run before its end; its state is saved.
    """

    module: LightningModule
    data: ShardDataModule
    trainer: Trainer
    folder: Path
    preempted: bool = False


def fit(config: TrainConfig) -> Run:
    """Trains ``config.stage`` and writes to ``output/stage/run_id``.

    Raises:
        ShardError: If shards are missing, damaged, or of other encoders than ``config.encoders``.
        CheckpointError: If the checkpoint to resume from is damaged or does not match, or one cannot be written.
        ConfigError: If the run directory cannot be written.
        LockedError: If another process trains this run.
        UserError: If a check before the run fails (ranks, queue, disk, GPU memory), the loss is not finite, or another
            rank failed or died.
    """
    settings, stage = config.trainer, STAGES.get(config.stage, "stage")()
    end_with_launcher()
    check_devices(settings)
    quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    folder = run_folder(config)
    signals = StopSignals(config.preemption.requeue_on, config.preemption.stop_on)
    preemption = Preemption(signals)
    watchdog = Watchdog(config.watchdog, folder, config.preemption.stop_on)
    data = datamodule(config.data)
    data.validation_clips = settings.validation_clips
    data.setup("fit")
    check_encoder_names(data, config.encoders, config.name)
    resume = check_resume(config, folder)
    module = stage.build(config, data)
    start = stage.start(module, config) if resume is None else None
    callbacks: list[Callback] = [NonFiniteGuard(), watchdog, preemption]
    if not settings.fast_dev_run:
        callbacks += [*stage.callbacks(config, data, folder), *run_callbacks(config, data, folder, watchdog)]
    strategy = build_strategy(settings, config.watchdog, config.data.micro_batch_count)
    trainer = build_trainer(
        settings,
        folder,
        strategy,
        callbacks,
        build_loggers(config, folder),
        validates=stage.own_loaders or bool(data.clips["val"]),
    )
    with _only_run(config, trainer, folder, resume):
        preflight(config, stage, data, trainer, module, folder)
        if trainer.is_global_zero:
            _warn(folder, resumed=resume is not None)
        if trainer.is_global_zero and not settings.fast_dev_run:
            if resume is None or not (folder / CONFIG_FILE).exists():
                store_config(config, folder)
            stage.keep(folder)
            if start:
                file, taken = start
                text = f"{file} (sha256 {sha256_of(file)})\n{taken}"
                write_whole(folder / INIT_FILE, f"{text}\n")
                print(f"init        {text}")
            print(describe(module, data, folder))
            if not stage.own_loaders:
                print(describe_batches(data, trainer.world_size), end="")
        with signals, watchdog, float32_products(settings.float32_products, trainer.strategy.root_device):
            try:
                trainer.fit(module, datamodule=None if stage.own_loaders else data, ckpt_path=resume)
            except Preempted:
                pass
            except Exception as error:
                fault = watchdog.other_ranks_fault() or fault_of_workers(error)
                if fault is None:
                    raise
                raise UserError(f"{fault}. Resume with ckpt_path=last") from error
            finally:
                close_loggers(trainer.loggers)  # before a requeue, after which the queue may end the processes
            preempted = preemption.agreed is not StopRequest.NONE and trainer.global_step < settings.max_steps
            if preempted and trainer.is_global_zero:
                say(leave(trainer.global_step, preemption.agreed, config.preemption.max_requeues))
    return Run(module, data, trainer, folder, preempted)


def _warn(folder: Path, resumed: bool) -> None:
    """Logs what ``tools.doctor`` finds in a moment: what may stop this job, and what is wrong with the run."""
    findings = [*machine_findings(folder), *(run_findings(folder, deep=False) if resumed else [])]
    for finding in findings:
        if finding.state is not State.FINE and finding.what != "lock":  # which this process holds
            log.warning("%s", finding)


@contextmanager
def _only_run(config: TrainConfig, trainer: Trainer, folder: Path, resume: str | None) -> Iterator[None]:
    """Holds the lock of the run directory on the first rank; a trial run writes nothing and needs none.

    Raises:
        LockedError: If another process trains this run.
        UserError: If another process trained it since ``resume`` was chosen.
        ForeignFileError: If a new run would replace files of somebody else.
    """
    if config.trainer.fast_dev_run or not trainer.is_global_zero:
        yield
        return
    remedy = "wait for it, end it, or set another run_id"
    with locked(folder / LOCK, str(folder), remedy):
        if resume_path(config, folder) != resume or (resume is None and check_resume(config, folder) is not None):
            raise UserError(f"{folder}: another process trained this run meanwhile; run the same command again")
        if resume is None:
            require_own_run(config, folder)
        yield


def exit_status(run: Run) -> int:
    """Exit status: 0, or 75 on rank 0 for a stopped run that can be resumed.

    The other ranks return 0. Otherwise srun and other launchers would end rank 0 while it requeues the job.
    """
    return EXIT_STOPPED if run.preempted and run.trainer.is_global_zero else 0


def check_encoder_names(data: ShardDataModule, encoders: Mapping[str, str], experiment: str) -> None:
    """Checks that shards were made with the experiment's encoders.

    Raises:
        ShardError: If an encoder differs; the message names it.
    """
    for kind, wanted in encoders.items():
        found = data.index.encoders[kind].name
        if found != wanted:
            raise ShardError(
                f"{data.config.root}: made by the {kind} encoder {found}, but experiment {experiment} has "
                f"encoders.{kind}={wanted}; prepare the data with its preset, or set encoders.{kind}={found}"
            )


def run_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path, watchdog: Watchdog) -> list[Callback]:
    """Callbacks of every stage: checkpoints, logs, progress bar, and continuation of a resumed run."""
    kept, validate_every = config.checkpoints, config.trainer.validate_every
    every = kept.every or validate_every
    return [
        RunCheckpoints(folder / "checkpoints", every, validate_every, kept.keep, kept.best, watchdog.saved),
        LearningRateMonitor("step"),
        RunLog(config, data.indices),
        *([ProgressBar()] if config.trainer.progress_bar else []),
        # Last, because its validation needs the setup of the others. A checkpoint that cannot be loaded leaves the
        # configuration of its run as it is.
        Continuation(validate_every, lambda: store_config(config, folder)),
    ]


def build_trainer(
    settings: TrainerConfig,
    folder: Path,
    strategy: str | Strategy,
    callbacks: list[Callback],
    loggers: list[Logger],
    validates: bool,
) -> Trainer:
    """Builds the Trainer of a run.

    Args:
        settings: Configuration of the trainer.
        folder: Run directory.
        strategy: Distributed strategy.
        callbacks: Callbacks in the order of their calls.
        loggers: Loggers of the run.
        validates: Whether there are validation clips.
    """
    if not validates:
        log.warning("%s: the data has no validation clips, so the run has no validation", folder)
    precision = dict(precision_settings(settings))
    plugins = precision.pop("plugins", [])
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # Lightning's requeue saves inside of a signal handler
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
        check_val_every_n_epoch=None,  # steps are counted across virtual epochs
        limit_val_batches=None if validates else 0,  # the data module limits the clips over all ranks
        gradient_clip_val=settings.gradient_clip,
        benchmark=settings.cudnn_benchmark,
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
    trainer.fit_loop = ContinuedLoop(trainer, settings.validate_every)
    return trainer


def describe(module: LightningModule, data: ShardDataModule, folder: Path) -> str:
    """Summary of a run in three lines: numbers of clips, parameters of each network, run directory."""
    counts = ", ".join(f"{len(clips)} {split}" for split, clips in data.clips.items())
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for child, network in module.named_children()
        for name, part in (network.named_children() if child in STAGES else [(child, network)])
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parts.items() if count)
    return f"data        {counts} clips\nparameters  {sizes}\nrun         {folder}"


def describe_batches(data: ShardDataModule, ranks: int) -> str:
    """Summary of the micro-batches of a step, and of the lengths of the first windows; empty if nothing varies."""
    config, lines = data.config, ""
    if config.micro_batch:
        numbers = {
            "rank": ranks, "accumulated micro-batch": config.micro_batch_count // ranks, "clip": config.micro_batch,
        }  # fmt: skip
        each = (f"{number} {name}{'es' if name[-1] == 'h' else 's'}" if number > 1 else f"1 {name}"
                for name, number in numbers.items())  # fmt: skip
        lines = f"batch       {' x '.join(each)}\n"
    if config.pad:
        return lines
    dataset = data.train_dataloader().dataset
    steps = range(min(STEPS_SUMMARISED, -(-len(dataset.clips) // config.batch_size)))
    frames = dataset.frames_by_length(steps)
    full = frames[config.window] / sum(frames.values())
    lines += f"windows     {full:.0%} of the frames in windows of {config.window}, the shortest has {min(frames)}"
    if config.micro_batch and ranks > 1:
        lines += f"; ranks wait for longer ones {dataset.idle_share(steps, ranks):.1%} of the time"
    if full < HARDLY_FULL:
        log.warning(
            "data.window=%d: %.0f %% of the frames are in windows this long; %s",
            config.window,
            100 * full,
            "lower data.window to the length of the clips"
            if config.micro_batch
            else "set data.micro_batch=1, so that a window is not as short as the shortest clip of the batch",
        )
    return lines + "\n"


def quiet_lightning() -> None:
    """Suppresses messages and warnings of Lightning that users cannot act on."""
    for name in FILTERED_LOGGERS:
        logging.getLogger(name).addFilter(_is_kept)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _is_kept(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in IGNORED_MESSAGES)
