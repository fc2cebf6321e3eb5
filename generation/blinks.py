"""Blinks at a chosen rate, in place of those in a driving expression.

    lid = open * (1 - closure)

``open`` is the distance of an eyelid dimension from its value with closed eyes, without the dips of predicted blinks:
a closing filter over 0.6 s (maximum, then minimum). ``closure`` is 0 between blinks. In a blink it rises to 1 in 0.12 s
and falls in 0.2 s along raised cosines; lids close faster than they open, and a spontaneous blink takes about a third
of a second (VanderWerf et al., Journal of Neurophysiology 89, 2003). People blink about 17 times a minute at rest, 26
in a conversation and 4 while they read (Bentivoglio et al., Movement Disorders 12, 1997).

Shapes: B videos, F frames at 25 fps, d_e expression width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.order import seed_of
from encoders.protocols import FPS, MotionEncoder
from generation.errors import GenerationError

CLOSING, OPENING = 3, 5  # frames
LENGTH = CLOSING + OPENING
REFRACTORY = 5  # frames that the eyes stay open between two blinks
FILTER = 15  # frames; longer than a blink, shorter than a change of the expression


def eyelids_of(motion: MotionEncoder, blinks: float) -> Mapping[int, float]:
    """Eyelid dimensions of an encoder's expression latent, each with its value for closed eyes.

    Args:
        motion: Motion encoder.
        blinks: Blinks per minute that were asked for, for the message.

    Raises:
        GenerationError: If the encoder has none.
    """
    eyelids: Mapping[int, float] = getattr(motion, "eyelids", {})
    if not eyelids:
        raise GenerationError(
            f"motion.blinks={blinks:g}: the expression latent of the motion encoder {motion.identity.name} has no "
            "eyelids; leave motion.blinks out, or use a network whose data were prepared with "
            "encoders.motion.name=blendshapes or landmarks"
        )
    return eyelids


def blink_starts(frames: int, blinks: float, seed: int) -> list[int]:
    """First frames of the blinks of a video.

    As many as the rate asks for, rounded up or down at random, at times of a Poisson process with a refractory time:
    given their number, times are uniform except that the eyes stay open between two blinks.

    Args:
        frames: Frames of the video.
        blinks: Blinks per minute.
        seed: Seed of the video.
    """
    rng = random.Random(seed_of("blinks", seed))
    apart = LENGTH + REFRACTORY
    number = min(math.floor(frames / FPS / 60 * blinks + rng.random()), (frames + REFRACTORY) // apart)
    free = frames + REFRACTORY - number * apart
    places = sorted(int(rng.random() * (free + 1)) for _ in range(number))
    return [place + index * apart for index, place in enumerate(places)]


def closure(frames: int, starts: list[int]) -> Tensor:
    """(F,) closure of the eyes, 0 open to 1 closed, for blinks that start at these frames."""
    rising = (1 - torch.cos(torch.arange(1, CLOSING + 1) * (math.pi / CLOSING))) / 2
    falling = (1 + torch.cos(torch.arange(1, OPENING + 1) * (math.pi / OPENING))) / 2
    closed = torch.zeros(frames)
    for start in starts:
        closed[start : start + LENGTH] = torch.cat([rising, falling])
    return closed


def with_blinks(e_dri: Tensor, eyelids: Mapping[int, float], blinks: float, seed: int) -> Tensor:
    """Replaces the blinks of a driving expression.

    Args:
        e_dri: (B, F, d_e) driving expressions, in the units of ``eyelids``.
        eyelids: Eyelid dimension -> value with closed eyes.
        blinks: Blinks per minute; 0 keeps the eyes open.
        seed: Seed of the times.

    Returns:
        (B, F, d_e); dimensions that are no eyelids are not changed.
    """
    places = list(eyelids)
    closed = torch.tensor([eyelids[place] for place in places])
    lids = e_dri[..., places] - closed
    side = lids.median(1, keepdim=True).values.sign()  # open eyes are above or below the value of closed ones
    opened = _without_dips(lids * side)
    moved = e_dri.clone()
    shut = closure(e_dri.shape[1], blink_starts(e_dri.shape[1], blinks, seed))
    moved[..., places] = closed + side * opened * (1 - shut[:, None])
    return moved


def _without_dips(lids: Tensor) -> Tensor:
    """(B, F, K) -> the same without dips shorter than ``FILTER`` frames."""
    each = lids.transpose(1, 2)
    wide = F.max_pool1d(F.pad(each, (FILTER // 2, FILTER // 2), value=-math.inf), FILTER, 1)
    return -F.max_pool1d(F.pad(-wide, (FILTER // 2, FILTER // 2), value=-math.inf), FILTER, 1).transpose(1, 2)
