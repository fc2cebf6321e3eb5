"""Schemas of ``train.py``: networks of the stages, and trainer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from configs.data import DataConfig
from configs.emotion import EmotionModelConfig
from configs.evaluation import EFIDConfig, FIDConfig, FVDConfig, SyncConfig
from configs.fields import MISSING, at_least, choice, constrained, literal, number, positive, registered, rule, share
from configs.loggers import LoggerConfig
from configs.proxy import ProxyConfig
from configs.registries import ENCODERS, METRICS, STAGES
from runtime.platforms import HANDLED_SIGNALS

AudioMode = Literal["add", "cross_attn"]
ConditionMode = Literal["adaln", "cross_attn"]
Reduction = Literal["mean", "sum"]
LearningRateDecay = Literal["none", "cosine"]
Variant = Literal["full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"]
Weighting = Literal["x0", "v", "min_snr"]
Prediction = Literal["v", "x0"]

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


def even(default: int) -> Any:
    """An even number: sines and cosines come in pairs."""
    return rule(default, lambda value: value > 0 and value % 2 == 0, "an even number: sines and cosines come in pairs")


def decay(default: float) -> Any:
    """Decay of averaged weights."""
    return rule(default, lambda value: 0 <= value < 1, "a share below 1: with 1 the weights would never change")


def handled_signal(default: list[str]) -> Any:
    """Names of signals that a process can handle."""
    return rule(default, HANDLED_SIGNALS.__contains__, "a signal that can be handled, e.g. SIGUSR1")


@dataclass
class LipConfig:
    """The audio-to-lip projector; see ``AudioToLip``."""

    width: int = positive(512)
    depth: int = positive(4)
    latents: int = positive(4)
    head_width: int = positive(64)


@dataclass
class ExpressionConfig:
    """Di-CTE; see ``DiCTE``."""

    width: int = positive(512)
    depth: int = positive(8)
    head_width: int = positive(64)
    identity_widths: list[int] = positive([64, 128, 256, 512])
    identity_size: int = positive(256)
    audio_mode: str = choice("add", AudioMode)
    condition_mode: str = choice("adaln", ConditionMode)


@dataclass
class ClubConfig:
    """The mutual-information term, Eq. 8.

    Attributes:
        weight: Weight of the estimate in the loss. 0 removes q from training.
        warmup: Steps that train q alone before the estimate is minimised.
        hidden: Width of q's hidden layers.
        lr: Learning rate of q.
        weighting: ``alpha_bar`` weights a clip by alpha_bar of its diffusion step, because Di-CTE predicts the
            conditional mean at high noise. ``none`` weights all clips equally.
    """

    weight: float = at_least(1.0, 0)
    warmup: int = at_least(0, 0)
    hidden: int = positive(256)
    lr: float = positive(1e-4)
    weighting: str = choice("alpha_bar", "alpha_bar", "none")


@dataclass
class VAIDConfig:
    """Stage 1, V-AID: networks, losses and optimizer.

    Attributes:
        diffusion_steps: T of the cosine schedule.
        sampling_steps: Number of DDIM steps.
        window: Frames of a sampling window, equal to the training window.
        overlap: Frames that two consecutive windows share when the audio is longer than one window.
        guidance: Scale of classifier-free guidance in sampling. 1 disables it.
        condition_dropout: Share of training clips without e_cond. Guidance needs a share above 0.
        condition_frame: Frame whose expression is e_cond in training: the first one of the ``clip`` or of the
            ``window``. Stage 2 takes the same for e_a. The paper says the first frame; generation has one e_cond for
            all windows, as training with ``clip``, which measured better (``vaid/tiny``).
        contrastive: alpha of Eq. 6, weight of InfoNCE.
        regression: beta of Eq. 6, weight of the squared error of the lip latents.
        regression_reduction: Reduction over latent dimensions: ``mean``, or ``sum`` as the paper writes it.
        temperature: tau of InfoNCE.
        velocity: Weight of the squared error of frame-to-frame differences of the expression latents.
        ema: Decay of the averaged weights of Di-CTE, which are validated and used by stage 2. 0 disables averaging.
        lr: Learning rate of AdamW.
        lr_warmup: Steps over which the learning rate rises linearly from 0.
        lr_decay: ``none``, or ``cosine`` to a hundredth at the last step.
        weight_decay: Weight decay of AdamW; norms and biases have none.
    """

    lip: LipConfig = field(default_factory=LipConfig)
    expression: ExpressionConfig = field(default_factory=ExpressionConfig)
    club: ClubConfig = field(default_factory=ClubConfig)
    diffusion_steps: int = positive(1000)
    sampling_steps: int = positive(25)
    window: int = positive(120)
    overlap: int = at_least(24, 0)
    guidance: float = number(1.0)
    condition_dropout: float = share(0.0)
    condition_frame: str = choice("clip", "clip", "window")
    contrastive: float = at_least(1.0, 0)
    regression: float = at_least(1.0, 0)
    regression_reduction: str = choice("mean", Reduction)
    temperature: float = positive(0.07)
    velocity: float = at_least(0.0, 0)
    ema: float = decay(0.0)
    lr: float = positive(1e-4)
    lr_warmup: int = at_least(0, 0)
    lr_decay: str = choice("none", LearningRateDecay)
    weight_decay: float = at_least(0.01, 0)


@dataclass
class UNetConfig:
    """Widths and depths of the U-Net, see ``UNetShape``. The codec gives its input and output channels."""

    channels: list[int] = positive([320, 640, 1280, 1280])
    heads: list[int] = positive([5, 10, 20, 20])
    attention: list[bool] = field(default_factory=lambda: [True, True, True, False])
    layers: int = positive(2)
    token_width: int = even(1024)
    added_width: int = even(256)


@dataclass
class EthdConfig:
    """Stage 2, ETHD: network, loss and optimizer.

    Attributes:
        unet: Widths and depths of the U-Net.
        variant: full, or an ablation: no_decouple, wo_lip, wo_exp, wo_dicte; see ``Variant``.
        share_weights: Whether the injector uses one attention for both expressions instead of one for each.
        checkpointing: Recompute every block in the backward pass. Takes a fraction of the memory and a third more time.
        prediction: ``v``, as SVD was trained, or ``x0``, for a U-Net too narrow to pass on all noise of the latents.
        diffusion_steps: Steps of the zero-terminal-SNR schedule.
        noise_shift: Factor on the schedule's sigma; above 1 for redundant latents, such as pixels.
        sampling_steps: Number of DDIM steps.
        window: Frames of a sampling window, equal to the training window.
        overlap: Frames that two consecutive windows share when the video is longer; null for a fifth of the window.
        loss: x0 (Eq. 11), v (as SVD was trained) or min_snr.
        snr_gamma: Signal-to-noise ratio above which min_snr weights samples less.
        audio_expression_probability: Share of the training clips conditioned on e_a, sampled by V-AID. The others are
            conditioned on e_v, extracted from the video.
        expression_steps: DDIM steps for e_a in training; null for V-AID's sampling_steps.
        reference_noise: Standard deviation of the noise on the reference latent in training, in the network's units.
            SVD added as much to the pixels of its image before encoding them. Here latents are stored, whose deviation
            with SVD's codec is about 5.5: the noise is weaker than SVD's, and generation adds none.
        lip_dropout: Share of training clips without the lip condition, drawn independently of expression_dropout. It
            is for experiments with guidance, which ``generate.py`` does not have.
        expression_dropout: Share of training clips without the expression condition.
        ema: Decay of the averaged weights, which are validated and exported. 0 disables averaging.
        lr: Learning rate of AdamW.
        lr_new: Learning rate of the layers that Stable Video Diffusion does not have; null for ``lr``.
        lr_warmup: Steps over which the learning rate rises linearly from 0.
        lr_decay: ``none``, or ``cosine`` to a hundredth at the last step.
        weight_decay: Weight decay of AdamW; norms and biases have none.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    variant: str = choice("full", Variant)
    share_weights: bool = True
    checkpointing: bool = True
    prediction: str = choice("v", Prediction)
    diffusion_steps: int = positive(1000)
    noise_shift: float = positive(1.0)
    sampling_steps: int = positive(25)
    window: int = positive(120)
    overlap: int | None = at_least(None, 0)
    loss: str = choice("x0", Weighting)
    snr_gamma: float = positive(5.0)
    audio_expression_probability: float = share(0.5)
    expression_steps: int | None = positive(None)
    reference_noise: float = at_least(0.02, 0)
    lip_dropout: float = share(0.0)
    expression_dropout: float = share(0.0)
    ema: float = decay(0.9999)
    lr: float = positive(1e-5)
    lr_new: float | None = positive(None)
    lr_warmup: int = at_least(0, 0)
    lr_decay: str = choice("none", LearningRateDecay)
    weight_decay: float = at_least(0.01, 0)


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
        validation_clips: Clips of each validation, over all ranks.
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
    init: str = literal(NO_INIT)
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
