"""ETHD's network: a U-Net that denoises under tokens and masks computed from the driving signals (EmotiveTalk §3.3).

Shapes: B clips, F frames, d_l lip width, d_e expression width, A audio layers, D_a audio width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from configs.models import Prediction, Variant
from diffusion.parameterization import signal_share, velocity_of_clean
from lightning_modules.ethd.conditioning import Conditions, TimelineKeys, TokenProjector, expression_regions
from lightning_modules.ethd.transformer import Branches
from lightning_modules.ethd.unet import UNet, UNetShape

LIP_TOKENS, EXPRESSION_TOKENS = 8, 4


@dataclass(frozen=True)
class DrivingSignals:
    """Driving signals. Each variant reads those it needs; ``lip`` or ``e_dri`` = None disables its branch.

    Attributes:
        boxes: (B, 2, 4) lip and face boxes of the portrait in pixels.
        e_ref: (B, d_e) expression of the portrait.
        lip: (B, F, d_l) lip latents l_a.
        e_dri: (B, F, d_e) driving expression: e_a from audio, or e_v from video.
        e_cond: (B, d_e) emotion condition, for variant ``wo_dicte``.
        audio: (B, F, A, D_a) audio features A_w, for variant ``no_decouple``.
        dropped: (B, 2) bool, True for clips whose lip or expression branch is disabled; None for no clip.
    """

    boxes: Tensor
    e_ref: Tensor
    lip: Tensor | None = None
    e_dri: Tensor | None = None
    e_cond: Tensor | None = None
    audio: Tensor | None = None
    dropped: Tensor | None = None

    def window(self, where: slice) -> DrivingSignals:
        """Returns the signals of a range of frames."""
        return replace(
            self,
            lip=None if self.lip is None else self.lip[:, where],
            e_dri=None if self.e_dri is None else self.e_dri[:, where],
            audio=None if self.audio is None else self.audio[:, where],
        )


@dataclass(frozen=True)
class SignalWidths:
    """Widths of the driving signals: d_l, d_e, and the audio's layers A and width D_a."""

    lip: int
    expression: int
    audio_layers: int
    audio: int


class Ethd(nn.Module):
    """Velocity network with the conditions of EmotiveTalk.

    Args:
        shape: Shape of the U-Net.
        widths: Widths of the driving signals.
        frame_side: Side of the square frames in pixels; unit of the boxes.
        variant: ``full``, or an ablation of the paper (Table 2, Figs. 3 and 4): ``no_decouple`` uses audio instead of
            lip and expression latents, ``wo_lip`` has no lip attention, ``wo_exp`` has no expression attentions, and
            ``wo_dicte`` repeats e_cond instead of using Di-CTE.
        share_weights: Whether the injector uses one attention for both expressions.
        checkpointing: Whether blocks are recomputed in the backward pass, see ``UNet``.
        prediction: Output of the U-Net. ``v`` is SVD's. With ``x0`` it reads sqrt(a) x_t and predicts the difference
            between clean and reference latents, from which v is computed. That suits narrow U-Nets: v contains the
            full noise, which they cannot pass through, while clean frames lie on a low-dimensional manifold
            (Li & He 2025, "Back to Basics").

    Raises:
        ValueError: If ``variant`` or ``prediction`` is unknown.
    """

    def __init__(
        self,
        shape: UNetShape,
        widths: SignalWidths,
        frame_side: int,
        variant: Variant = "full",
        *,
        share_weights: bool = True,
        checkpointing: bool = True,
        prediction: Prediction = "v",
    ) -> None:
        super().__init__()
        for name, value, known in (("variant", variant, Variant), ("prediction", prediction, Prediction)):
            if value not in get_args(known):
                raise ValueError(f"{name} {value!r}: expected one of {', '.join(get_args(known))}")
        self.frame_side, self.variant, self.prediction = frame_side, variant, prediction
        branches = Branches(lip=variant != "wo_lip", expression=variant != "wo_exp", share_weights=share_weights)
        if variant == "no_decouple":  # there is no reference expression that a second attention could attend to
            branches = replace(branches, share_weights=True)
        self.unet = UNet(shape, branches, checkpointing)
        of_audio = variant == "no_decouple"
        self.audio_layers = nn.Parameter(torch.zeros(widths.audio_layers)) if of_audio else None
        lip, expression = (widths.audio, widths.audio) if of_audio else (widths.lip, widths.expression)
        width = shape.token_width
        self.lip_tokens = TokenProjector(lip, LIP_TOKENS, width) if branches.lip else None
        self.expression_tokens = TokenProjector(expression, EXPRESSION_TOKENS, width) if branches.expression else None
        self.timeline = TimelineKeys(expression, width) if branches.expression else None

    def forward(self, noisy: Tensor, noise_input: Tensor, reference: Tensor, signals: DrivingSignals) -> Tensor:
        """Predicts the velocity of noisy latents, see ``UNet.forward``.

        Args:
            noisy: (B, F, C, h, w) noisy latents, scaled.
            noise_input: (B,) 1/4 ln sigma of the noise level.
            reference: (B, C, h, w) latent of the portrait, see ``LatentScale.reference``.
            signals: Driving signals of the same frames.

        Returns:
            (B, F, C, h, w) velocity.
        """
        conditions = self.conditions(signals, noisy)
        if self.prediction == "v":
            return self.unet(noisy, reference, noise_input, conditions)
        shown = (noisy * signal_share(noise_input, noisy).sqrt()).to(noisy)
        change = self.unet(shown, reference, noise_input, conditions)
        return velocity_of_clean(noisy, reference[:, None] + change, noise_input)

    def conditions(self, signals: DrivingSignals, like: Tensor) -> Conditions:
        """Computes tokens and masks for latents ``like`` (B, F, C, h, w), in their dtype.

        Raises:
            ValueError: If a signal that the variant needs is missing, or has another number of frames.
        """
        frames, side = like.shape[1], like.shape[-1]
        lip, e_dri = self._sources(signals, frames)
        for name, source in (("lip", lip), ("expression", e_dri)):
            if source is not None and source.shape[1] != frames:
                raise ValueError(f"{name}: has {source.shape[1]} frames, expected those of the latents, {frames}")
        lip_tokens = driving = reference = timeline = None
        regions: dict[int, Tensor] = {}
        if self.lip_tokens is not None and lip is not None:
            lip_tokens = self.lip_tokens(lip.to(like))
        if self.expression_tokens is not None and self.timeline is not None and e_dri is not None:
            driving, timeline = self.expression_tokens(e_dri.to(like)), self.timeline(e_dri.to(like))
            if self.variant != "no_decouple":
                # Repeated before the projection, so that e_ref and an equal e_dri give bit-identical tokens.
                reference = self.expression_tokens(repeated(signals.e_ref, frames).to(like))
            size = (self.frame_side, self.frame_side)
            regions = expression_regions(signals.boxes, size, self.unet.grid_sides(side))
        conditions = Conditions(lip_tokens, driving, reference, timeline, regions)
        return conditions if signals.dropped is None else conditions.without(signals.dropped)

    def _sources(self, signals: DrivingSignals, frames: int) -> tuple[Tensor | None, Tensor | None]:
        """Inputs of the lip and the expression branch, each (B, F, width)."""
        if self.variant == "no_decouple":
            if signals.audio is None or self.audio_layers is None:
                raise ValueError("variant no_decouple: the driving signals have no audio")
            audio = torch.einsum("bfad,a->bfd", signals.audio.to(self.audio_layers), self.audio_layers.softmax(0))
            return audio, audio
        if self.variant == "wo_dicte":
            if signals.e_cond is None:
                raise ValueError("variant wo_dicte: the driving signals have no e_cond")
            return signals.lip, repeated(signals.e_cond, frames)
        return signals.lip, signals.e_dri


def repeated(vector: Tensor, frames: int) -> Tensor:
    """(B, d) -> (B, F, d), equal in all frames."""
    return vector[:, None].expand(-1, frames, -1)
