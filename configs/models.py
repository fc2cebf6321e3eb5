"""Schemas of the networks of both stages, V-AID and ETHD: layers, losses and optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.fields import at_least, between, choice, number, positive, rule, share

AudioMode = Literal["add", "cross_attn"]
ConditionMode = Literal["adaln", "cross_attn"]
Reduction = Literal["mean", "sum"]
LearningRateDecay = Literal["none", "cosine"]
Variant = Literal["full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"]
Weighting = Literal["x0", "v", "min_snr"]
Prediction = Literal["v", "x0"]
MAX_GUIDANCE = 10.0  # scale; far above those that other systems use (1 to 7)


def even(default: int) -> Any:
    """An even number: sines and cosines come in pairs."""
    return rule(default, lambda value: value > 0 and value % 2 == 0, "an even number: sines and cosines come in pairs")


def decay(default: float) -> Any:
    """Decay of averaged weights."""
    return rule(default, lambda value: 0 <= value < 1, "a share below 1: with 1 the weights would never change")


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
        whitening: Exponent of the channels' deviations by which latents are divided: 1 standardises each channel, 0
            divides all by one number. Not for SVD's latents, which have a constant.
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
        lip_dropout: Share of training clips without the lip condition, drawn independently of expression_dropout.
            Guidance of the lips needs a share above 0.
        expression_dropout: Share of training clips without the expression condition. Guidance of the expression needs
            a share above 0.
        lip_guidance: Scale of the lip condition in sampling, if generation names no other. 1 is no guidance.
        expression_guidance: Scale of the expression condition in sampling, in the same way.
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
    whitening: float = share(1.0)
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
    lip_guidance: float = between(1.0, 0, MAX_GUIDANCE)
    expression_guidance: float = between(1.0, 0, MAX_GUIDANCE)
    ema: float = decay(0.9999)
    lr: float = positive(1e-5)
    lr_new: float | None = positive(None)
    lr_warmup: int = at_least(0, 0)
    lr_decay: str = choice("none", LearningRateDecay)
    weight_decay: float = at_least(0.01, 0)
