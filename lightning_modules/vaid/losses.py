"""Losses of V-AID's two branches, EmotiveTalk Eq. 4-7, and the numbers that tell how well they do.

Every loss is a mean over a clip's own frames first and over clips then, so padding and the company a clip keeps in its
batch change nothing. All are computed in fp32.

Shapes: B clips, N frames, d latent width; ``mask`` (B, N) is False where padded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from configs.training import Reduction


class Contrast(NamedTuple):
    """InfoNCE of each clip and what belongs to it; all (B,) float32.

    Attributes:
        loss: Eq. 4 in nats.
        bound: ln N - loss, a lower bound of the information in nats between prediction and target, at most ln N.
        top1: share of frames whose nearest target of the clip is their own.
        near1: share whose nearest target is their own or a neighbour of it.
    """

    loss: Tensor
    bound: Tensor
    top1: Tensor
    near1: Tensor


def info_nce(predicted: Tensor, target: Tensor, mask: Tensor, temperature: float = 0.07) -> Contrast:
    """Eq. 4: each predicted frame picks its own among all target frames of the same clip, by cosine similarity.

    Args:
        predicted: (B, N, d).
        target: (B, N, d).
        mask: (B, N); every clip needs one frame at least.
        temperature: tau.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        a, v = F.normalize(predicted.float(), dim=-1), F.normalize(target.float(), dim=-1)
        logits = (a @ v.transpose(1, 2) / temperature).masked_fill(~mask[:, None, :], -torch.inf)
        own = torch.arange(mask.shape[1], device=mask.device)
        surprise = torch.logsumexp(logits, dim=-1) - logits.diagonal(dim1=1, dim2=2).masked_fill(~mask, 0.0)
        loss = masked_mean(surprise, mask)
    distance = (logits.argmax(-1) - own).abs()
    return Contrast(
        loss,
        mask.sum(1).log() - loss,
        masked_mean((distance == 0).float(), mask),
        masked_mean((distance <= 1).float(), mask),
    )


def squared_error(predicted: Tensor, target: Tensor, mask: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Eq. 5 and 7: squared error of each clip, (B,) float32.

    Args:
        predicted: (B, N, d).
        target: (B, N, d).
        mask: (B, N).
        reduction: over dimensions; ``sum`` is the paper's formula to the letter, which for wide latents drowns InfoNCE.
    """
    error = (predicted.float() - target.float()).square()
    return masked_mean(error.mean(-1) if reduction == "mean" else error.sum(-1), mask)


def velocity_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the changes from frame to frame, (B,) float32; 0 for a clip of one frame."""
    change = predicted.float().diff(dim=1) - target.float().diff(dim=1)
    return masked_mean(change.square().mean(-1), mask[:, 1:] & mask[:, :-1])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, N) values over the frames that are there, (B,); 0 where there are none."""
    return values.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)
