"""From a checked configuration to a trained stage: data, module, callbacks, loggers, Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only

from callbacks.continuation import Continuation
from callbacks.ema import WeightAverage
from callbacks.latent_plots import LatentPlots, Names
from callbacks.non_finite import NonFiniteGuard
from callbacks.preemption import EXIT_STOPPED, Preempted, Preemption, StopSignals, Wish, leave, say
from callbacks.progress import ProgressBar
from callbacks.run_checkpoints import RunCheckpoints, StraightToDisk
from callbacks.run_log import RunLog
from callbacks.throughput import Throughput
from callbacks.watchdog import Watchdog
from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.training import EthdConfig, TrainConfig, VAIDConfig
from datamodules.datamodule import ShardDataModule
from datamodules.mixture import datamodule
from datamodules.schema import ShardError
from encoders.factory import build_as
from encoders.weights import sha256_of
from lightning_modules.checkpoints import checkpoint_file
from lightning_modules.emotion.module import EmotionModule, build_emotion
from lightning_modules.ethd.checkpoint import EthdCard
from lightning_modules.ethd.latents import latent_scale
from lightning_modules.ethd.module import EthdModule
from lightning_modules.ethd.svd_weights import load_svd
from lightning_modules.standin.module import StandInModule, build_stand_in
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.module import VAIDModule
from lightning_modules.vaid.statistics import motion_statistics
from runtime.errors import UserError
from training.loggers import build_loggers, close_loggers
from training.preflight import check_devices, preflight
from training.provenance import provenance
from training.resume import check_resume, resume_path, run_folder, store_config
from training.strategies import build_strategy, precision_settings

log = logging.getLogger(__name__)
# What Lightning says of another product and of its own code, which nobody here can act on.
IDLE = ("litlogger", "`weights_only` was not set")
TALKATIVE = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.connectors.checkpoint_connector")


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
        UserError: when ranks, queue, disk or card do not fit.
        ConfigError: when the run directory cannot be written.
        UserError: when the loss is no longer a number.
        UserError: when another rank failed or died.
    """
    check_devices(config)
    _quieten()
    seed_everything(config.seed, workers=True, verbose=False)
    folder = run_folder(config)
    signals = StopSignals(config.preemption.requeue_on, config.preemption.stop_on)
    preemption, watchdog = Preemption(signals), Watchdog(config.watchdog, folder)
    data = datamodule(config.data)
    data.setup("fit")
    check_encoder_names(config, data)
    resume = check_resume(config, folder)
    module = BUILDERS[config.stage](config, data)
    trainer = build_trainer(config, data, folder, preemption, watchdog)
    preflight(config, trainer, module, folder)
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        store_config(config, folder)
        print(describe(config, module, data, folder))
    # Texts are not in the shards: the emotion experiment has loaders of its own.
    source = None if isinstance(module, EmotionModule) else data
    with signals, watchdog:
        try:
            trainer.fit(module, datamodule=source, ckpt_path=resume)
        except Preempted:
            pass
        except Exception as error:
            fault = watchdog.fault_of_another()
            if fault is None:
                raise
            raise UserError(f"{fault}. Resume with ckpt_path=last") from error
        finally:
            close_loggers(trainer.loggers)  # before the queue may end the processes that still write
        preempted = preemption.agreed is not Wish.GO_ON and trainer.global_step < config.trainer.max_steps
        if preempted and trainer.is_global_zero:
            say(leave(trainer.global_step, preemption.agreed, config.preemption.max_requeues))
    return Run(module, data, trainer, folder, preempted)


def _quieten() -> None:
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(_of_use)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _of_use(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in IDLE)


def exit_status(run: Run) -> int:
    """0, or 75 for a run to be continued.

    The first process reports for all: srun and other launchers end the others when one fails, and it may still have to
    queue the job again.
    """
    return EXIT_STOPPED if run.preempted and run.trainer.is_global_zero else 0


def build_vaid(config: TrainConfig, data: ShardDataModule) -> VAIDModule:
    """A new V-AID for the data, with the statistics of its training clips."""
    model: VAIDConfig = config.model
    module = VAIDModule(model, data.dimensions, data.index.encoders, config.trainer.max_steps, config.seed)
    motions = ((f"{clip.entry.shard}: {clip.key}", lip, expression) for clip, lip, expression in data.motions())
    module.vaid.set_statistics(motion_statistics(motions))
    return module


def build_ethd_module(config: TrainConfig, data: ShardDataModule) -> EthdModule:
    """A new ETHD for the data, driven by ``config.vaid``, on SVD's weights where they are given.

    Raises:
        CheckpointError: when the V-AID is missing, damaged, of another stage or of other encoders than the data.
        ShardError: when the latents are too small for the U-Net's levels.
        WrongWeights: when ``model.svd`` is not SVD's U-Net.
    """
    model: EthdConfig = config.model
    index, file = data.index, checkpoint_file(str(config.vaid))
    vaid = load_vaid(file, index.encoders)
    levels, side = len(model.unet.channels), data.dimensions.latent_size
    if side % 2 ** (levels - 1):
        raise ShardError(
            f"{data.config.root}: latents of side {side} cannot be halved {levels - 1} times, as the {levels} levels "
            "of model.unet ask; prepare the data with another frame_size, or take fewer levels"
        )
    scale = latent_scale(index.encoders["codec"].name, index.codec_scale, data.latent_statistics)
    if scale.raw_reference and model.prediction != "v":
        raise ConfigError(
            f"model.prediction={model.prediction}: adds to the reference latent, which the codec "
            f"{index.encoders['codec'].name} gives in other units than the latents; set model.prediction=v"
        )
    card = EthdCard(
        model,
        data.dimensions,
        index.encoders,
        index.frame_size,
        scale,
        str(file.resolve()),
        sha256_of(file),
    )
    module = EthdModule(card, vaid, config.trainer.max_steps, config.data.batch_size, config.seed)
    if model.svd and resume_path(config, run_folder(config)) is None:
        load_svd(module.ethd.unet, Path(model.svd), rank_zero_only(print))
    return module


def build_emotion_module(config: TrainConfig, data: ShardDataModule) -> EmotionModule:
    """The label table of the data's training clips, and a new text mapping onto it."""
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return build_emotion(config.model, data, config.trainer.max_steps, config.seed, "cuda" if on_gpu else "cpu")


def build_stand_in_module(config: TrainConfig, data: ShardDataModule) -> StandInModule:
    """A stand-in for one of the metrics' networks."""
    return build_stand_in(config.model, data, config.trainer.max_steps, config.seed)


BUILDERS: dict[str, Callable[[TrainConfig, ShardDataModule], LightningModule]] = {
    "vaid": build_vaid,
    "ethd": build_ethd_module,
    "emotion": build_emotion_module,
    "standin": build_stand_in_module,
}


def stage_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
    """Callbacks that belong to the stage."""
    if config.stage == "vaid":
        return [LatentPlots(folder, latent_names(data.index.encoders["motion"].name)), Throughput()]
    if config.stage == "ethd":
        average = [WeightAverage(config.model.ema)] if config.model.ema else []
        return [*average, Throughput(), *video_callbacks(config, data, folder)]
    return []


def video_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
    """Samples and evaluations of validation clips, where they are asked for and there are such clips."""
    wanted = config.videos
    if not (data.clips["val"] and (wanted.sample_every or wanted.evaluate_every)):
        return []
    from callbacks.evaluation import Evaluation  # they bring the metrics along, which most runs do without
    from callbacks.sample_videos import SampleVideos
    from callbacks.validation_videos import VideoMaker

    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    codec = build_as("codec", data.index.encoders["codec"], "cuda" if on_gpu else "cpu")
    callbacks: list[Callback] = []
    if wanted.sample_every:
        callbacks.append(
            SampleVideos(folder, VideoMaker(codec, wanted.sample_clips, wanted.frames), wanted.sample_every)
        )
    if wanted.evaluate_every:
        parts = {name: getattr(wanted, name) for name in ("metrics", "fid", "fvd", "sync", "efid")}
        evaluation = EvaluateConfig(generated="", reference="", output="", protocol="emotivetalk", bootstrap=0, **parts)
        maker = VideoMaker(codec, wanted.evaluate_clips, wanted.frames)
        callbacks.append(Evaluation(folder, maker, wanted.evaluate_every, evaluation))
    return callbacks


def latent_names(motion_encoder: str) -> Names | None:
    """What the latents' dimensions are, where the motion encoder gives them names."""
    if motion_encoder == "landmarks":
        from encoders.motion.geometry import EXPRESSION_FEATURES, LIP_FEATURES

        return LIP_FEATURES, EXPRESSION_FEATURES
    if motion_encoder == "blendshapes":
        from encoders.motion.blendshapes import EXPRESSION_SHAPES, LIP_SHAPES

        return tuple(LIP_SHAPES), tuple(EXPRESSION_SHAPES)
    return None


def check_encoder_names(config: TrainConfig, data: ShardDataModule) -> None:
    """Refuses shards of another preset.

    Raises:
        ShardError: naming the encoder that differs.
    """
    for kind, wanted in config.encoders.items():
        found = data.index.encoders[kind].name
        if found != wanted:
            raise ShardError(
                f"{data.config.root}: made by the {kind} encoder {found}, encoders.{kind}={wanted} is expected by "
                f"experiment {config.name}; prepare the data with its preset, or set encoders.{kind}={found}"
            )


def build_trainer(
    config: TrainConfig, data: ShardDataModule, folder: Path, preemption: Preemption, watchdog: Watchdog
) -> Trainer:
    """Lightning's Trainer with the callbacks every stage has and those of its own."""
    settings = config.trainer
    callbacks: list[Callback] = [NonFiniteGuard(folder), watchdog, preemption]
    if not data.clips["val"]:
        log.warning("%s: has no val clips, so nothing is validated", data.config.root)
    if not settings.fast_dev_run:
        kept = config.checkpoints
        every = kept.every or settings.validate_every
        callbacks += [
            *stage_callbacks(config, data, folder),
            RunCheckpoints(
                folder / "checkpoints", every, settings.validate_every, kept.keep, kept.best, watchdog.saved
            ),
            LearningRateMonitor("step"),
            RunLog(folder, lambda: provenance(config, data.indices)),
        ]
    if settings.progress_bar:
        callbacks.append(ProgressBar())
    if not settings.fast_dev_run:
        callbacks.append(Continuation(settings.validate_every))  # last: its validation needs what others set up
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
        strategy=build_strategy(config),
        max_steps=settings.max_steps,
        max_time=timedelta(minutes=settings.max_minutes) if settings.max_minutes else None,
        val_check_interval=settings.validate_every,
        check_val_every_n_epoch=None,  # steps count through, whatever the length of the virtual epoch
        limit_val_batches=settings.validation_clips if data.clips["val"] else 0,
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
        logger=build_loggers(config, folder),
        **precision,
    )
    if data.clips["val"] and not settings.fast_dev_run:  # Lightning's limit is of one rank; clips are dealt out in turn
        trainer.limit_val_batches = -(-settings.validation_clips // trainer.world_size)
    return trainer


def describe(config: TrainConfig, module: LightningModule, data: ShardDataModule, folder: Path) -> str:
    """A few lines for the start of a run: data, parameters of each part, where results go."""
    counts = ", ".join(f"{len(clips)} {split}" for split, clips in data.clips.items())
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for child, network in module.named_children()
        for name, part in (network.named_children() if child in ("vaid", "ethd") else [(child, network)])
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parts.items() if count)
    return f"data        {counts} clips\nparameters  {sizes}\nrun         {folder}"
