"""Computes the driving signals from speech and an emotion source, and reports inputs that have no effect.

Shapes: F frames, d_e expression width, A audio layers, D_a audio width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from configs.generation import DrivingMode
from configs.models import Variant
from generation.blinks import with_blinks
from generation.errors import GenerationError
from generation.head_motion import with_head_motion
from generation.portrait import PreparedPortrait
from lightning_modules.emotion.sources import ResolvedEmotion
from lightning_modules.ethd.driving_signals import build_driving_signals
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.vaid.network import VAID


def driving_signals(
    vaid: VAID,
    variant: Variant,
    audio: Tensor,
    portrait: PreparedPortrait,
    emotion: ResolvedEmotion,
    *,
    mode: DrivingMode = "both",
    extend: str = "pingpong",
    seed: int = 0,
    lip_strength: float = 1.0,
    trained_with: VAID | None = None,
    blinks: float | None = None,
    eyelids: Mapping[int, float] | None = None,
    head: float = 1.0,
    pose: Sequence[int] = (),
) -> tuple[DrivingSignals, tuple[str, ...]]:
    """Computes the driving signals of one video.

    Args:
        vaid: Predictor of lips and expressions from speech.
        variant: Variant of ETHD.
        audio: (F, A, D_a) audio features.
        portrait: Face to animate.
        emotion: Emotion source; a driving video is cut or extended to F frames.
        mode: Animated branches; see ``build_driving_signals``.
        extend: Extension of a driving video that is too short: pingpong, hold or error.
        seed: Seed of V-AID's noise.
        lip_strength: Factor on the lip latents.
        trained_with: V-AID that ETHD was trained with, if it differs from ``vaid``.
        blinks: Blinks per minute; None for those that are predicted.
        eyelids: Eyelid dimension of the expression latent -> value with closed eyes; needed for ``blinks``.
        head: Amount of head motion.
        pose: Dimensions of the expression latent that are the pose of the head; needed for ``head``.

    Returns:
        The driving signals on the host, and notes for the user.

    Raises:
        GenerationError: If a driving video is shorter than F and ``extend`` is error.
    """
    notes: tuple[str, ...] = ()
    e_v = emotion.e_v
    if e_v is not None and variant != "no_decouple":
        e_v, notes = to_length(e_v, len(audio), extend)
    signals = build_driving_signals(
        vaid,
        variant,
        audio[None],
        x_ref=torch.from_numpy(portrait.x_ref)[None],
        boxes=torch.from_numpy(portrait.boxes)[None],
        e_ref=portrait.e_ref[None],
        e_cond=None if emotion.e_cond is None else emotion.e_cond[None],
        e_v=None if e_v is None else e_v[None],
        mode=mode,
        seed=seed,
        lip_strength=lip_strength,
        trained_with=trained_with,
    )
    if head != 1:
        if signals.e_dri is None:
            notes = (*notes, f"motion.head: has no effect; this network (variant {variant}) has no e_dri")
        else:
            signals = replace(signals, e_dri=with_head_motion(signals.e_dri, pose, head))
    if blinks is not None:
        if signals.e_dri is None:
            notes = (*notes, f"motion.blinks: has no effect; this network (variant {variant}) has no e_dri")
        else:
            units = (vaid if trained_with is None else trained_with).expression_scale
            mean, std = units.mean.tolist(), units.std.tolist()
            closed = {place: (value - mean[place]) / std[place] for place, value in (eyelids or {}).items()}
            signals = replace(signals, e_dri=with_blinks(signals.e_dri, closed, blinks, seed))
    return signals, (*notes, *ignored_inputs(variant, emotion, mode, lip_strength))


def ignored_inputs(
    variant: Variant, emotion: ResolvedEmotion, mode: DrivingMode, lip_strength: float = 1.0
) -> tuple[str, ...]:
    """Returns a note for every requested input that the variant or mode ignores."""
    notes = []
    if emotion.source != "portrait" and variant in ("no_decouple", "wo_exp"):
        notes.append(
            f"emotion.{emotion.source}: has no effect; this network (variant {variant}) has no expression input"
        )
    elif emotion.source != "portrait" and mode == "lips":
        notes.append(f"emotion.{emotion.source}: has no effect with drive=lips")
    if lip_strength != 1 and variant in ("no_decouple", "wo_lip"):
        notes.append(f"lips.strength: has no effect; this network (variant {variant}) has no lip input")
    elif lip_strength != 1 and mode == "expression":
        notes.append("lips.strength: has no effect with drive=expression")
    without: dict[str, tuple[str, ...]] = {"lips": ("no_decouple", "wo_lip"), "expression": ("no_decouple", "wo_exp")}
    if mode != "both" and variant in without[mode]:
        notes.append(f"drive={mode}: has no effect; this network (variant {variant}) has no separate {mode} branch")
    return tuple(notes)


def to_length(source: Tensor, frames: int, extend: str) -> tuple[Tensor, tuple[str, ...]]:
    """Cuts or extends a sequence of expressions to the length of the speech.

    Args:
        source: (N, d_e) expression latents.
        frames: Target length F.
        extend: If N < F: run back and forth (pingpong), repeat the last frame (hold) or raise (error).

    Returns:
        (F, d_e) expression latents, and notes for the user.

    Raises:
        GenerationError: If N < F and ``extend`` is error.
    """
    found = len(source)
    if found >= frames:
        cut = (f"emotion.video: has {found} frames; only the first {frames} are used",) if found > frames else ()
        return source[:frames], cut
    if extend == "error":
        raise GenerationError(
            f"emotion.video: has {found} frames, the speech {frames}; use emotion.extend=pingpong or hold to extend it"
        )
    return source[ORDERS[extend](found, frames)], (f"emotion.video: {found} frames extended to {frames} by {extend}",)


def _pingpong(found: int, frames: int) -> Tensor:
    period = max(1, 2 * found - 2)
    place = torch.arange(frames) % period
    return torch.minimum(place, period - place) if found > 1 else place


def _hold(found: int, frames: int) -> Tensor:
    return torch.arange(frames).clamp(max=found - 1)


ORDERS: dict[str, Callable[[int, int], Tensor]] = {"pingpong": _pingpong, "hold": _hold}
