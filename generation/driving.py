"""From speech and an emotion to what drives the face: l_a, e_dri, e_ref and e_cond, as the network was trained on them.

Latents travel between encoders and networks in the encoder's units; ETHD hears them in the units of the V-AID it was
trained with. Shapes: F frames, d_l and d_e lip and expression widths, A audio layers, D_a audio width.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from configs.generation import DriveMode
from configs.training import Variant
from datamodules.order import seed_of
from generation.errors import GenerationError
from generation.portrait import Portrait
from lightning_modules.emotion.sources import ResolvedEmotion
from lightning_modules.ethd.network import Drive, repeated
from lightning_modules.vaid.network import VAID


class Driver:
    """Makes the drive of a video.

    Args:
        vaid: turns speech into lips and expressions.
        scales: the V-AID ETHD was trained with, whose statistics are its units.
        variant: of ETHD.
        device: where ``vaid`` runs.
    """

    def __init__(self, vaid: VAID, scales: VAID, variant: Variant, device: torch.device) -> None:
        self.vaid, self.variant, self.device = vaid, variant, device
        self._same = vaid is scales
        # Copies: a V-AID on a GPU takes its own with it.
        self._lip_scale, self._expression_scale = (
            deepcopy(scale).cpu() for scale in (scales.lip_scale, scales.expression_scale)
        )

    @torch.no_grad()
    def __call__(
        self,
        audio: Tensor,
        portrait: Portrait,
        emotion: ResolvedEmotion,
        *,
        mode: DriveMode = "both",
        extend: str = "pingpong",
        seed: int = 0,
    ) -> tuple[Drive, tuple[str, ...]]:
        """The drive of one video, on the host, and notes.

        Args:
            audio: (F, A, D_a) features.
            portrait: whose face it is.
            emotion: whose expression is shown; a driving video is brought to F frames.
            mode: ``lips`` sets e_dri = e_ref; ``expression`` switches the lip branch off.
            extend: pingpong, hold or error.
            seed: of the expression V-AID samples.

        Raises:
            GenerationError: when a driving video is shorter and ``extend`` is error.
        """
        e_ref = self._expression_scale(portrait.e_ref[None])
        boxes = torch.from_numpy(portrait.boxes)[None]
        if self.variant == "no_decouple":
            return Drive(boxes, e_ref, audio=audio[None]), self._unheard(emotion, mode)
        e_dri, e_cond, notes = self._expression(audio, portrait, emotion, mode, extend, seed)
        return (
            Drive(
                boxes=boxes,
                e_ref=e_ref,
                lip=None if mode == "expression" or self.variant == "wo_lip" else self._lip(audio),
                e_dri=e_dri,
                e_cond=e_cond,
            ),
            (*notes, *self._unheard(emotion, mode)),
        )

    def _lip(self, audio: Tensor) -> Tensor:
        """(1, F, d_l) l_a."""
        l_a = self.vaid.lip(audio[None].to(self.device))
        return l_a.cpu() if self._same else self._lip_scale(self.vaid.lip_scale.restore(l_a).cpu())

    def _expression(
        self, audio: Tensor, portrait: Portrait, emotion: ResolvedEmotion, mode: DriveMode, extend: str, seed: int
    ) -> tuple[Tensor | None, Tensor | None, tuple[str, ...]]:
        """(1, F, d_e) e_dri, (1, d_e) e_cond for the variant that repeats it, and notes."""
        scale, frames = self._expression_scale, len(audio)
        notes: tuple[str, ...] = ()
        source: Tensor | None = emotion.e_v
        if source is not None:
            source, notes = to_length(source, frames, extend)
        if self.variant == "wo_exp":
            return None, None, notes
        if self.variant == "wo_dicte":
            e_cond = emotion.e_cond if source is None else source.mean(0)
            return None, scale((portrait.e_ref if mode == "lips" or e_cond is None else e_cond)[None]), notes
        if mode == "lips":
            return repeated(scale(portrait.e_ref[None]), frames).contiguous(), None, notes
        if source is not None:
            return scale(source[None]), None, notes
        assert emotion.e_cond is not None
        return self._sampled(audio, portrait, emotion.e_cond, seed), None, notes

    def _sampled(self, audio: Tensor, portrait: Portrait, e_cond: Tensor, seed: int) -> Tensor:
        """(1, F, d_e) e_a."""
        device = self.device
        e_a = self.vaid.sample_expression(
            audio[None].to(device),
            torch.from_numpy(portrait.x_ref)[None].to(device),
            self.vaid.expression_scale(e_cond[None].to(device)),
            # Not the number itself: the video's noise is drawn from it.
            [seed_of("expression", seed) >> 1],
        )
        return e_a.cpu() if self._same else self._expression_scale(self.vaid.expression_scale.restore(e_a).cpu())

    def _unheard(self, emotion: ResolvedEmotion, mode: DriveMode) -> tuple[str, ...]:
        """What was asked for and this network cannot follow."""
        notes = []
        if emotion.source != "portrait" and self.variant in ("no_decouple", "wo_exp"):
            notes.append(
                f"emotion.{emotion.source}: has no effect, as this network (variant {self.variant}) hears no expression"
            )
        elif emotion.source != "portrait" and mode == "lips":
            notes.append(f"emotion.{emotion.source}: has no effect with drive=lips")
        deaf: dict[str, tuple[str, ...]] = {"lips": ("no_decouple", "wo_lip"), "expression": ("no_decouple", "wo_exp")}
        if mode != "both" and self.variant in deaf[mode]:
            notes.append(f"drive={mode}: this network (variant {self.variant}) has no branch of its own for that")
        return tuple(notes)


def to_length(source: Tensor, frames: int, extend: str) -> tuple[Tensor, tuple[str, ...]]:
    """Brings a driving sequence to the speech's length.

    Args:
        source: (N, d_e).
        frames: F.
        extend: a shorter one runs back and forth (pingpong), stays at its last frame (hold) or is refused (error).

    Returns:
        (F, d_e), and notes.

    Raises:
        GenerationError: for a shorter one with ``error``.
    """
    found = len(source)
    if found >= frames:
        cut = (f"emotion.video: lasts {found} frames, the first {frames} are used",) if found > frames else ()
        return source[:frames], cut
    if extend == "error":
        raise GenerationError(
            f"emotion.video: lasts {found} frames, the speech {frames}; emotion.extend=pingpong or hold goes on with it"
        )
    return source[ORDERS[extend](found, frames)], (f"emotion.video: {found} frames extended to {frames} by {extend}",)


def _pingpong(found: int, frames: int) -> Tensor:
    period = max(1, 2 * found - 2)
    place = torch.arange(frames) % period
    return torch.minimum(place, period - place) if found > 1 else place


def _hold(found: int, frames: int) -> Tensor:
    return torch.arange(frames).clamp(max=found - 1)


ORDERS: dict[str, Callable[[int, int], Tensor]] = {"pingpong": _pingpong, "hold": _hold}
