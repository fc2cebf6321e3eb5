"""Schemas of ``train.py``: the run and its trainer. ``configs/models.py`` has the networks of the stages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from configs.data import DataConfig
from configs.emotion import EmotionModelConfig
from configs.evaluation import EFIDConfig, FIDConfig, FVDConfig, SyncConfig
from configs.fields import MISSING, Constraint, at_least, choice, constrained, literal, positive, registered, rule
from configs.loggers import LoggerConfig
from configs.models import EthdConfig, VAIDConfig
from configs.proxy import ProxyConfig
from configs.registries import ENCODERS, METRICS, STAGES
from runtime.platforms import HANDLED_SIGNALS

NO_INIT, SVD_INIT = "none", "svd"  # values of init= that name no run
NO_BF16_WEIGHTS = (
    "the optimizer would have bfloat16 weights alone, which round off most updates at a small learning rate; use "
    "bf16-mixed: float32 weights and bfloat16 products"
)
STAGE_3 = ("deepspeed_stage_3", "deepspeed_stage_3_offload")
NO_STAGE_3 = (
    "ZeRO stage 3 splits the weights themselves, and checkpointed blocks then find empty weights in the backward pass; "
    "at 1.6 billion parameters it would save little. Use trainer=deepspeed (stage 2), or trainer=deepspeed_offload if "
    "memory is short"
)


def handled_signal(default: list[str]) -> Any:
    """Names of signals that a process can handle."""
    return rule(default, HANDLED_SIGNALS.__contains__, "a signal that can be handled, e.g. SIGUSR1")


@dataclass
class DeepSpeedConfig:
    """Options of DeepSpeed, used with ``trainer.strategy=deepspeed``.

    Attributes:
        stage: ZeRO stage. 1 shards the optimizer states over the ranks, 2 the gradients too.
        autocast: Keep float32 weights and compute products in bfloat16. Without it, precision=bf16-mixed keeps bfloat16
            weights and a float32 copy in the optimizer.
        offload_optimizer: Keep the optimizer states on the host and update there.
        bucket: Numbers reduced or gathered at a time. A smaller value takes less memory.
    """

    stage: int = choice(2, 1, 2, hints={"3": NO_STAGE_3})
    autocast: bool = False
    offload_optimizer: bool = False
    bucket: int = positive(200_000_000)


@dataclass
class TrainerConfig:
    """Length and hardware of a training.

    Attributes:
        accelerator: auto, cpu or gpu.
        devices: Processes per node; ``auto`` for all devices.
        nodes: Number of machines.
        strategy: auto, ddp or deepspeed.
        precision: 32-true; or bf16-mixed, which under DeepSpeed means bfloat16 weights.
        float32_products: Precision of float32 matrix products on a GPU, see ``torch.set_float32_matmul_precision``:
            ``high`` is TF32, which cuDNN's convolutions have by default; ``highest`` is float32.
        cudnn_benchmark: Let cuDNN measure its algorithms for every new shape. Worth it if all windows are equally long.
        compile: Compile the segments of ETHD's U-Net with ``torch.compile`` when they are first run, for all lengths of
            windows. Takes minutes at the start; the time that it saves is not measured yet.
        deepspeed: Options of DeepSpeed.
        max_steps: Number of optimizer steps.
        max_minutes: Time limit, minutes; null for none.
        validate_every: Steps between two validations.
        validation_clips: Clips of each validation, over all ranks; evenly spaced over the validation split.
        gradient_clip: Maximum norm of the gradient; null for no clipping.
        log_every: Steps between logged values.
        fast_dev_run: Run one step of training and validation and write nothing.
        progress_bar: Show a progress bar.
        check_memory: Before the first step, refuse a training that exceeds the GPU's memory by the estimate of
            ``training/memory.py``.
    """

    accelerator: str = choice("auto", "auto", "cpu", "gpu")
    devices: str = rule(
        "auto", re.compile(r"auto|-1|\d+(,\d+)*,?").fullmatch, "the number of processes per machine, or auto"
    )
    nodes: int = positive(1)
    strategy: str = choice("auto", "auto", "ddp", "deepspeed", hints=dict.fromkeys(STAGE_3, NO_STAGE_3))
    precision: str = choice("32-true", "32-true", "bf16-mixed", hints={"bf16-true": NO_BF16_WEIGHTS})
    float32_products: str = choice("high", "high", "highest")
    cudnn_benchmark: bool = False
    compile: bool = False
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    max_steps: int = positive(MISSING)
    max_minutes: float | None = positive(None)
    validate_every: int = positive(1000)
    validation_clips: int = positive(16)
    gradient_clip: float | None = positive(None)
    log_every: int = positive(50)
    fast_dev_run: bool = False
    progress_bar: bool = True
    check_memory: bool = True


@dataclass
class CheckpointsConfig:
    """Checkpoints that a run keeps; ``last.ckpt`` is the newest, ``best.ckpt`` the best.

    Attributes:
        every: Steps between two checkpoints; null for trainer.validate_every. Each validation also writes one.
        keep: Number of the newest checkpoints that are kept.
        best: Validation value that selects the best, lower is better, e.g. val/loss; null for none.
    """

    every: int | None = positive(None)
    keep: int = positive(2)
    best: str | None = None


@dataclass
class ResumeConfig:
    """Differences that a resumed run may have.

    Attributes:
        allow_config_change: Continue even if the stored configuration of the run differs, except in values that
            define the training order, such as data.batch_size; ``init=RUN`` starts a new run that may change them.
    """

    allow_config_change: bool = False


@dataclass
class WatchdogConfig:
    """Time limits after which a stalled run is ended, with a line that names the rank, the step and the clips.

    Attributes:
        step_minutes: Limit for a step, and for the wait for its batch.
        join_minutes: Limit for the wait for the other ranks at the start.
        other_minutes: Limit for a validation, a checkpoint, and the work before the first step.
        dead_seconds: Seconds without a heartbeat after which a process on another machine counts as dead.
    """

    step_minutes: float = positive(10.0)
    join_minutes: float = positive(10.0)
    other_minutes: float = positive(120.0)
    dead_seconds: float = positive(30.0)


@dataclass
class PreemptionConfig:
    """Preemption by the queue: after one of these signals a run finishes its batch, saves, and exits with status 75.

    Attributes:
        requeue_on: Signals after which a SLURM job is queued again; ``#SBATCH --signal=USR1@300`` sends one of them.
        stop_on: Signals after which the run only stops. SLURM sends SIGTERM when it preempts, cancels or times out a
            job, and decides itself whether to requeue it. SIGINT is Ctrl-C, SIGHUP a closed terminal.
        max_requeues: Maximum number of times a job queues itself again.
    """

    requeue_on: list[str] = handled_signal(["SIGUSR1", "SIGUSR2"])
    stop_on: list[str] = handled_signal(["SIGTERM", "SIGINT", "SIGHUP"])
    max_requeues: int = at_least(100, 0)


@dataclass
class ValidationVideosConfig:
    """Videos and metrics of validation clips during stage 2. They do not affect the training.

    Attributes:
        sample_every: Steps between two sets of sample videos; null for none.
        sample_clips: Videos in a set.
        evaluate_every: Steps between two evaluations; null for none.
        evaluate_clips: Clips of an evaluation.
        frames: Maximum frames of a clip.
        metrics: Any of fid, fvd, sync, efid.
        fid: Settings of FID, as in ``evaluate.py``.
        fvd: Settings of FVD.
        sync: Settings of Sync-C and Sync-D.
        efid: Settings of E-FID.
    """

    sample_every: int | None = positive(None)
    sample_clips: int = positive(2)
    evaluate_every: int | None = positive(None)
    evaluate_clips: int = positive(8)
    frames: int = positive(125)
    metrics: list[str] = registered(METRICS, ["fid", "efid"])
    fid: FIDConfig = field(default_factory=FIDConfig)
    fvd: FVDConfig = field(default_factory=FVDConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    efid: EFIDConfig = field(default_factory=EFIDConfig)


MODELS = (VAIDConfig, EthdConfig, EmotionModelConfig, ProxyConfig)


@dataclass
class TrainConfig:
    """Configuration of ``train.py``.

    Attributes:
        stage: Stage to train: vaid, ethd, emotion, proxy, or the dotted path of your own ``Stage``.
        name: Name of the experiment, the first part of the default run_id.
        run_id: Name of the run directory. The same id continues the same run. Null for the name and a digest of the
            configuration.
        output: Folder of the run directories ``output/stage/run_id``.
        seed: Seed of weights and noise.
        ckpt_path: Checkpoint to resume from. ``last`` is the newest of this run, or none; null starts a new run.
        init: Initial weights of a new run. ``none`` for random ones; ``svd`` for Stable Video Diffusion, found as
            ``prepare.py task=weights`` stores it, or its ``unet/`` folder in diffusers' format; or a run directory,
            checkpoint or export of the same stage. A resumed run ignores it.
        vaid: Run directory or checkpoint of the V-AID that conditions stage ethd; with ``init=RUN`` by default that of
            the run. The run keeps a copy, so that a resumed run does not need it.
        encoders: Names of the encoders that must have made the shards, e.g. {audio: mel}.
        model: Configuration of the stage, see its ``config``.
        objective: Logged value whose best value a sweep compares, e.g. val/loss; null for none. The best is the lowest,
            or the highest with hydra.sweeper.direction=maximize.
        videos: Videos and metrics of validation clips, for stage ethd.
        checkpoints: Checkpoints that are kept.
        resume: Differences that a resumed run may have.
        preemption: Signals of the queue.
        watchdog: Time limits for a stalled run.
    """

    stage: str = registered(STAGES)
    name: str = MISSING
    run_id: str | None = rule(
        None, lambda value: value and not set("/\\") & set(value), "a folder's name in output/stage, without a slash"
    )
    output: str = literal("outputs")
    seed: int = at_least(0, 0)
    ckpt_path: str | None = literal(None)
    init: str = literal(NO_INIT, Constraint(bool, "none, svd, or a run, checkpoint or export"))
    vaid: str | None = literal(None)
    encoders: dict[str, str] = registered(ENCODERS, {})
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = constrained(MISSING, None, typed_by=(STAGES, "stage"), kinds=MODELS)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    objective: str | None = None
    videos: ValidationVideosConfig = field(default_factory=ValidationVideosConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)
    preemption: PreemptionConfig = field(default_factory=PreemptionConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
