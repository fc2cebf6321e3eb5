"""Classifier-free guidance for lips and for expression apart (Ho & Salimans 2022), as a mean of passes with weights.

    v = v(l, e) + (s_l - 1) (v(l, e) - v(0, e)) + (s_e - 1) (v(l, e) - v(l, 0))

l and e are lips and expression, 0 is a dropped condition, s_l and s_e are the scales. In terms of scores, each scale
strengthens one condition given the other: p(x | l, e) p(l | x, e)^(s_l - 1) p(e | x, l)^(s_e - 1).

InstructPix2Pix (Brooks et al. 2023, Eq. 3) guides in an order instead: v(0, 0), then v(l, 0) - v(0, 0), then
v(l, e) - v(l, 0). Both are equal where the conditions act independently. The form here never needs v(0, 0). Training
with an independent dropout of a tenth each sees it in 1 % of the clips, but v(0, e) and v(l, 0) in 9 % each. One scale
alone takes two passes, whichever it is; in an order, that of the first condition takes three.

Guidance may be limited to an interval of noise levels (Kynkäänniemi et al. 2024): at high noise it moves all videos to
the mean of their condition, and at low noise it changes little.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from configs.generation import DrivingMode, GuidanceConfig
from configs.models import EthdConfig
from lightning_modules.ethd.network import DrivingSignals, Ethd
from runtime.errors import UserError


class GuidanceError(UserError):
    """Guidance that a network was not trained for."""


@dataclass(frozen=True)
class Guidance:
    """Scales of both conditions, and the noise levels at which they act.

    Attributes:
        lips: s_l; 1 is no guidance.
        expression: s_e; 1 is no guidance.
        low: Guidance acts above this share of the diffusion steps.
        high: Guidance acts up to this share of the diffusion steps; 1 is pure noise.
    """

    lips: float = 1.0
    expression: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def passes(self, share: float) -> list[tuple[tuple[bool, bool], float]]:
        """Which conditions are dropped in each pass, as in ``DrivingSignals.dropped``, and its weight in the mean.

        Args:
            share: Noise level as a share of the diffusion steps, in (0, 1].
        """
        if not self.low < share <= self.high:
            return [((False, False), 1.0)]
        weights = ((False, False), self.lips + self.expression - 1), ((True, False), 1 - self.lips)
        return [one for one in (*weights, ((False, True), 1 - self.expression)) if one[1]]


@dataclass(frozen=True)
class _Branch:
    """A condition that can be guided: its name in the configuration of a network, what lacks it, and its mode."""

    name: str
    lacking: tuple[str, ...]
    off: str


BRANCHES = {
    "lips": _Branch("lip", ("wo_lip", "no_decouple"), "expression"),
    "expression": _Branch("expression", ("wo_exp", "no_decouple"), "lips"),
}


def guided_parts(config: EthdConfig) -> tuple[str, ...]:
    """Conditions that a network can be guided by: lips, expression, both or none."""
    return tuple(
        part
        for part, branch in BRANCHES.items()
        if config.variant not in branch.lacking and getattr(config, f"{branch.name}_dropout") > 0
    )


def trained_guidance(config: EthdConfig) -> Guidance:
    """Guidance in the configuration of a network, used where none is asked for."""
    return Guidance(config.lip_guidance, config.expression_guidance)


def guidance_of(
    wanted: GuidanceConfig | None, config: EthdConfig, mode: DrivingMode = "both"
) -> tuple[Guidance, tuple[str, ...]]:
    """Checks guidance against a network, and replaces None by the values in its configuration.

    Args:
        wanted: Guidance asked for; None for that of the configuration.
        config: Configuration of the network.
        mode: Driving mode; a condition that does not drive the video is not guided.

    Returns:
        The guidance, and notes for the user.

    Raises:
        GuidanceError: If the network has no such condition, or always had it in training.
    """
    wanted = wanted or GuidanceConfig()
    scales: dict[str, float] = {}
    notes: list[str] = []
    for part, branch in BRANCHES.items():
        given = getattr(wanted, part)
        scale = getattr(trained_guidance(config), part) if given is None else given
        if scale == 1:
            continue
        if config.variant in branch.lacking:
            raise GuidanceError(
                f"guidance.{part}={scale:g}: this network (variant {config.variant}) has no separate {part} branch; "
                f"leave guidance.{part} out"
            )
        if part not in guided_parts(config):
            raise GuidanceError(
                f"guidance.{part}={scale:g}: this network was trained with model.{branch.name}_dropout=0, so guidance "
                "cannot work; leave it out, or train with a dropout of 0.1, e.g. experiment=ethd/paper_guided"
            )
        if mode != branch.off:
            scales[part] = scale
        elif given is not None:
            notes.append(f"guidance.{part}: has no effect with drive={mode}")
    if not scales and (wanted.low, wanted.high) != (0, 1):
        notes.append("guidance.low, guidance.high: have no effect without guidance.lips or guidance.expression")
    return Guidance(**scales, low=wanted.low, high=wanted.high), tuple(notes)


def guided_velocity(
    ethd: Ethd,
    noisy: Tensor,
    noise_input: Tensor,
    reference: Tensor,
    signals: DrivingSignals,
    passes: list[tuple[tuple[bool, bool], float]],
) -> Tensor:
    """Predicts the velocity of noisy latents with guidance. All passes are one batch.

    Args:
        ethd: Network.
        noisy: (B, F, C, h, w) noisy latents, scaled.
        noise_input: (B,) 1/4 ln sigma of the noise level.
        reference: (B, C, h, w) latent of the portrait.
        signals: Driving signals of the same frames; ``dropped`` is None.
        passes: Result of ``Guidance.passes``.

    Returns:
        (B, F, C, h, w) velocity. A single pass without dropped conditions is the network's own, to the bit.
    """
    if len(passes) == 1 and not any(passes[0][0]):
        return ethd(noisy, noise_input, reference, signals)
    count, clips = len(passes), len(noisy)

    def many(values: Tensor) -> Tensor:
        return torch.cat([values] * count)

    tensors = {field.name: getattr(signals, field.name) for field in fields(signals)}
    repeated = {name: many(values) for name, values in tensors.items() if isinstance(values, Tensor)}
    dropped = torch.tensor([one for one, _ in passes], device=noisy.device).repeat_interleave(clips, 0)
    v = ethd(many(noisy), many(noise_input), many(reference), replace(signals, **repeated | {"dropped": dropped}))
    weights = torch.tensor([weight for _, weight in passes], device=noisy.device)
    return torch.einsum("p,p...->...", weights, v.float().unflatten(0, (count, clips)))
