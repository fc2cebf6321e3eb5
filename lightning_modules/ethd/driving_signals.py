"""Driving signals l_a, e_dri, e_ref and e_cond, computed by V-AID from speech and an expression.

Inputs are in the encoders' units. ETHD expects latents standardised by the V-AID it was trained with.

Shapes: F frames, d_l and d_e lip and expression widths, A audio layers, D_a audio width.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from configs.generation import DrivingMode
from configs.models import Variant
from datamodules.order import seed_of
from lightning_modules.ethd.network import DrivingSignals, repeated
from lightning_modules.vaid.network import VAID, Standardiser


@torch.no_grad()
def build_driving_signals(
    vaid: VAID,
    variant: Variant,
    audio: Tensor,
    *,
    x_ref: Tensor,
    boxes: Tensor,
    e_ref: Tensor,
    e_cond: Tensor | None = None,
    e_v: Tensor | None = None,
    mode: DrivingMode = "both",
    seed: int = 0,
    lip_strength: float = 1.0,
    trained_with: VAID | None = None,
) -> DrivingSignals:
    """Computes the driving signals of one video; the result is on the CPU.

    Args:
        vaid: Network that predicts lips and expressions, on any device.
        variant: Variant of ETHD; signals that it does not use are None.
        audio: (1, F, A, D_a) float32 audio features.
        x_ref: (1, 256, 256, 3) uint8 portrait.
        boxes: (1, 2, 4) lip and face boxes of the portrait in pixels.
        e_ref: (1, d_e) expression of the portrait.
        e_cond: (1, d_e) emotion condition from which V-AID samples a sequence; None for ``e_ref``.
        e_v: (1, F, d_e) expressions of a driving video; used instead of V-AID's.
        mode: ``lips`` sets e_dri = e_ref; ``expression`` disables the lip branch.
        seed: Seed of the video. The seed of V-AID's expression sampling is derived from it.
        lip_strength: Factor on the lip latents. They are standardised, so they move away from the mean of the training.
            The mean of the clip would depend on frames that a stream does not have yet, and the portrait has no lip
            latent.
        trained_with: V-AID that ETHD was trained with, if it is not ``vaid``.
    """
    units = vaid if trained_with is None else trained_with
    # Copies, because .cpu() would move the scales of ``units`` itself.
    lip_scale, scale = deepcopy(units.lip_scale).cpu(), deepcopy(units.expression_scale).cpu()
    device = vaid.expression_scale.mean.device

    def in_units(values: Tensor, own: Standardiser, wanted: Standardiser) -> Tensor:
        return values.cpu() if units is vaid else wanted(own.restore(values).cpu())

    signals = DrivingSignals(boxes, scale(e_ref))
    if variant == "no_decouple":
        return replace(signals, audio=audio)
    if mode != "expression" and variant != "wo_lip":
        lip = in_units(vaid.lip(audio.to(device)), vaid.lip_scale, lip_scale)
        signals = replace(signals, lip=lip if lip_strength == 1 else lip_strength * lip)
    if variant == "wo_exp":
        return signals
    if variant == "wo_dicte":
        shown = e_cond if e_v is None else e_v.mean(1)
        return replace(signals, e_cond=signals.e_ref if mode == "lips" or shown is None else scale(shown))
    if mode == "lips":
        return replace(signals, e_dri=repeated(signals.e_ref, audio.shape[1]).contiguous())
    if e_v is not None:
        return replace(signals, e_dri=scale(e_v))
    e_a = vaid.sample_expression(
        audio.to(device),
        x_ref.to(device),
        vaid.expression_scale((e_ref if e_cond is None else e_cond).to(device)),
        # A derived seed: the seed itself generates the noise of the video.
        [seed_of("expression", seed) >> 1],
    )
    return replace(signals, e_dri=in_units(e_a, vaid.expression_scale, scale))
