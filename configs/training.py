"""The types of ``train.py``'s configuration: the stages' networks and the trainer."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import Any, Literal

from configs.data import DataConfig
from configs.emotion import EmotionModelConfig
from configs.evaluation import EFIDConfig, FIDConfig, FVDConfig, SyncConfig
from configs.fields import MISSING, at_least, choice, constrained, literal, number, positive, registered, rule, share
from configs.loggers import LoggerConfig
from configs.proxy import ProxyConfig
from configs.registries import ENCODERS, METRICS, STAGES

AudioMode = Literal["add", "cross_attn"]
ConditionMode = Literal["adaln", "cross_attn"]
Reduction = Literal["mean", "sum"]
LearningRateDecay = Literal["none", "cosine"]
Variant = Literal["full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"]
Weighting = Literal["x0", "v", "min_snr"]
Prediction = Literal["v", "x0"]

STAGE_3 = ("deepspeed_stage_3", "deepspeed_stage_3_offload")
NO_STAGE_3 = (
    "ZeRO stage 3 splits the weights themselves, and blocks that are computed again in the backward pass then find "
    "weights of no size; at 1.6 billion parameters it would save little. Use trainer=deepspeed (stage 2), or "
    "trainer=deepspeed_offload where memory is short"
)


def even(default: int) -> Any:
    """An even number: sines and cosines come in pairs."""
    return rule(default, lambda value: value > 0 and value % 2 == 0, "an even number: sines and cosines come in pairs")


def handled_signal(default: list[str]) -> Any:
    """Names of signals that a process may handle."""
    names = signal.Signals.__members__.keys() - {"SIGKILL", "SIGSTOP"}
    return rule(default, names.__contains__, "a signal that can be handled, e.g. SIGUSR1")


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
        weight: of the estimate in the loss; 0 leaves q out altogether.
        warmup: steps in which q learns alone before the estimate is minimised.
        hidden: width of q's hidden layers.
        lr: of q.
        weighting: ``alpha_bar`` weighs a clip by the signal left at its diffusion step, since Di-CTE's guess at high
            noise is the conditional mean; ``none`` weighs all alike.
    """

    weight: float = at_least(1.0, 0)
    warmup: int = at_least(0, 0)
    hidden: int = positive(256)
    lr: float = positive(1e-4)
    weighting: str = choice("alpha_bar", "alpha_bar", "none")


@dataclass
class VAIDConfig:
    """Stage one: networks, losses and optimizer.

    Attributes:
        diffusion_steps: T of the cosine schedule.
        sampling_steps: DDIM steps.
        window: frames of a sampling window; the training window.
        overlap: frames two windows share when the audio is longer.
        guidance: classifier-free guidance scale when sampling; 1 for none.
        condition_dropout: share of training clips that see no e_cond; guidance needs some.
        contrastive: alpha of Eq. 6, weight of InfoNCE.
        regression: beta of Eq. 6, weight of the lip's squared error.
        regression_reduction: over latent dimensions, ``mean`` or the paper's literal ``sum``.
        temperature: tau of InfoNCE.
        velocity: weight of the squared error of the expression's changes from frame to frame.
        lr: of the networks.
        lr_warmup: steps over which it rises linearly from 0.
        lr_decay: ``none``, or ``cosine`` to a hundredth at the last step.
        weight_decay: of AdamW.
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
    contrastive: float = at_least(1.0, 0)
    regression: float = at_least(1.0, 0)
    regression_reduction: str = choice("mean", Reduction)
    temperature: float = positive(0.07)
    velocity: float = at_least(0.0, 0)
    lr: float = positive(1e-4)
    lr_warmup: int = at_least(0, 0)
    lr_decay: str = choice("none", LearningRateDecay)
    weight_decay: float = at_least(0.01, 0)


@dataclass
class UNetConfig:
    """The U-Net's widths and depths; see ``UNetShape``. Its input and output channels follow the codec."""

    channels: list[int] = positive([320, 640, 1280, 1280])
    heads: list[int] = positive([5, 10, 20, 20])
    attention: list[bool] = field(default_factory=lambda: [True, True, True, False])
    layers: int = positive(2)
    token_width: int = even(1024)
    added_width: int = even(256)


@dataclass
class EthdConfig:
    """Stage two: the network, its loss and its optimizer.

    Attributes:
        unet: widths and depths.
        variant: full, or an ablation: no_decouple, wo_lip, wo_exp, wo_dicte; see ``Variant``.
        share_weights: the injector has one attention for both expressions; else one for each.
        checkpointing: recompute every block in the backward pass: a fraction of the memory, a third more time.
        prediction: ``v``, as SVD was trained, or ``x0``, for a U-Net too narrow to pass all of the latents' noise on.
        svd: ``unet/`` folder of Stable Video Diffusion in diffusers' format to start from; null starts afresh.
        diffusion_steps: of the zero-terminal-SNR schedule.
        noise_shift: multiplies the schedule's sigma; above 1 for latents with much redundancy, such as pixels.
        sampling_steps: DDIM steps.
        window: frames of a sampling window; the training window.
        overlap: frames two windows share when the video is longer; null for a fifth of the window.
        loss: x0 (Eq. 11), v (as SVD was trained) or min_snr.
        snr_gamma: of min_snr: signal-to-noise ratio from which samples count less.
        mask_source: the boxes that bound the expression's region: ``reference`` for those of x_ref's frame (the
            paper's), ``window`` for all boxes of the window together.
        audio_expression_probability: share of the training clips that are driven by e_a, sampled by V-AID; the others
            by e_v, the video's own.
        expression_steps: DDIM steps of e_a in training; null for V-AID's own number.
        reference_noise: standard deviation of the noise on the reference latent, in the network's units.
        condition_dropout: share of training clips that see neither lip nor expression.
        ema: decay of the averaged weights, which are validated and exported; 0 averages nothing.
        lr: of AdamW.
        lr_warmup: steps over which it rises linearly from 0.
        lr_decay: ``none``, or ``cosine`` to a hundredth at the last step.
        weight_decay: of AdamW.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    variant: str = choice("full", Variant)
    share_weights: bool = True
    checkpointing: bool = True
    prediction: str = choice("v", Prediction)
    svd: str | None = literal(None)
    diffusion_steps: int = positive(1000)
    noise_shift: float = positive(1.0)
    sampling_steps: int = positive(25)
    window: int = positive(120)
    overlap: int | None = at_least(None, 0)
    loss: str = choice("x0", Weighting)
    snr_gamma: float = positive(5.0)
    mask_source: str = choice("reference", "reference", "window")
    audio_expression_probability: float = share(0.5)
    expression_steps: int | None = positive(None)
    reference_noise: float = at_least(0.02, 0)
    condition_dropout: float = share(0.0)
    ema: float = rule(0.9999, lambda value: 0 <= value < 1, "a share below 1: 1 would keep the first weights for ever")
    lr: float = positive(1e-5)
    lr_warmup: int = at_least(0, 0)
    lr_decay: str = choice("none", LearningRateDecay)
    weight_decay: float = at_least(0.01, 0)


@dataclass
class DeepSpeedConfig:
    """What of DeepSpeed may be chosen; ``trainer.strategy=deepspeed`` reads it.

    Attributes:
        stage: of ZeRO: 1 shares the optimizer's states among the ranks, 2 the gradients too.
        autocast: float32 weights and bfloat16 products; without it precision=bf16-mixed keeps bfloat16 weights beside
            float32 ones of the optimizer.
        offload_optimizer: keep the optimizer's states on the host and update there.
        bucket: numbers that are reduced or gathered at a time; smaller takes less memory.
    """

    stage: int = choice(2, 1, 2, hints={"3": NO_STAGE_3})
    autocast: bool = False
    offload_optimizer: bool = False
    bucket: int = positive(200_000_000)


@dataclass
class TrainerConfig:
    """How long and on what a stage trains.

    Attributes:
        accelerator: auto, cpu or gpu.
        devices: processes per node; ``auto`` for all.
        nodes: machines.
        strategy: auto, ddp or deepspeed.
        precision: 32-true; bf16-mixed, which under DeepSpeed means bfloat16 weights; or bf16-true.
        deepspeed: what of it may be chosen.
        max_steps: optimizer steps.
        max_minutes: stop after so long; null for no bound.
        validate_every: steps between validations.
        validation_clips: clips each validation looks at.
        gradient_clip: largest norm of the gradient; null for no bound.
        log_every: steps between logged values.
        fast_dev_run: one step of training and validation, nothing written.
        progress_bar: show it.
        check_memory: refuse, before the first step, what will not fit on the card by ``training/memory.py``'s count.
    """

    accelerator: str = choice("auto", "auto", "cpu", "gpu")
    devices: str = rule(
        "auto", re.compile(r"auto|-1|\d+(,\d+)*,?").fullmatch, "how many processes a machine runs, or auto"
    )
    nodes: int = positive(1)
    strategy: str = choice("auto", "auto", "ddp", "deepspeed", hints=dict.fromkeys(STAGE_3, NO_STAGE_3))
    precision: str = choice("32-true", "32-true", "bf16-mixed", "bf16-true")
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
    """Which checkpoints a run keeps; ``last.ckpt`` is the newest, ``best.ckpt`` the best.

    Attributes:
        every: steps between two; null for trainer.validate_every. Every validation has one, too.
        keep: how many of the newest stay.
        best: validated value by which the best is chosen, smaller is better, e.g. val/loss; null for none.
    """

    every: int | None = positive(None)
    keep: int = positive(2)
    best: str | None = None


@dataclass
class ResumeConfig:
    """What a resumed run may differ in.

    Attributes:
        allow_config_change: go on although the run's stored configuration is another.
    """

    allow_config_change: bool = False


@dataclass
class WatchdogConfig:
    """After how long a run that stands still is ended, with a line that names the rank, the step and the clips.

    Attributes:
        step_minutes: the longest a step, or the wait for its batch, may take.
        join_minutes: likewise the wait for the other ranks at the start.
        other_minutes: likewise for a validation, a checkpoint, or what comes before the first step.
        dead_seconds: silence after which a process on another machine counts as dead.
    """

    step_minutes: float = positive(10.0)
    join_minutes: float = positive(10.0)
    other_minutes: float = positive(120.0)
    dead_seconds: float = positive(30.0)


@dataclass
class PreemptionConfig:
    """What a run does when its queue wants the machine back: it ends after the batch, saved, with status 75.

    Attributes:
        requeue_on: signals after which a SLURM job is queued again; ``#SBATCH --signal=USR1@300`` sends one of them.
        stop_on: signals after which the run only stops. SLURM sends SIGTERM when it preempts, cancels or times out a
            job, and knows itself whether the job comes back; SIGINT is Ctrl-C.
        max_requeues: times a job may queue itself again.
    """

    requeue_on: list[str] = handled_signal(["SIGUSR1", "SIGUSR2"])
    stop_on: list[str] = handled_signal(["SIGTERM", "SIGINT"])
    max_requeues: int = at_least(100, 0)


@dataclass
class ValidationVideosConfig:
    """What stage two shows and measures of its validation clips while it trains; it changes nothing in the training.

    Attributes:
        sample_every: steps between samples to look at; null for none.
        sample_clips: how many.
        evaluate_every: steps between evaluations; null for none.
        evaluate_clips: how many clips they hold.
        frames: of each clip, at most.
        metrics: any of fid, fvd, sync, efid.
        fid: see ``evaluate.py``, as the three below.
        fvd: likewise.
        sync: likewise.
        efid: likewise.
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
    """``train.py``.

    Attributes:
        stage: what is trained: vaid, ethd, emotion, proxy, or the dotted path of a ``Stage`` of one's own.
        name: of the experiment; begins the default run_id.
        run_id: names the run directory; the same id continues the same run. Null for the name and a digest of the
            configuration.
        output: folder that holds the run directories, ``output/stage/run_id``.
        seed: of weights and noise.
        ckpt_path: checkpoint to resume from; ``last`` takes the run's own, if there is one; null starts a new run.
        vaid: for stage ethd, the V-AID that drives it: a run directory or a checkpoint.
        encoders: names of the encoders that must have made the shards, e.g. {audio: mel}.
        model: the stage's own configuration, see its ``config``.
        objective: Logged value whose best a sweep compares runs by, e.g. val/loss; null for none. The best is the
            smallest, with hydra.sweeper.direction=maximize the largest.
        videos: for stage ethd, what is shown and measured of validation clips.
        checkpoints: which are kept.
        resume: what a resumed run may differ in.
        preemption: signals of the queue.
        watchdog: when a run stands still.
    """

    stage: str = registered(STAGES)
    name: str = MISSING
    run_id: str | None = rule(
        None, lambda value: value and not set("/\\") & set(value), "a folder's name in output/stage, without a slash"
    )
    output: str = literal("outputs")
    seed: int = at_least(0, 0)
    ckpt_path: str | None = literal(None)
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
