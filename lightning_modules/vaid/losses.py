"""Losses and accuracies of V-AID's two branches (EmotiveTalk Eq. 4-7).

    Eq. 4  InfoNCE = -log( exp(cos(l_a_i, l_v_i) / tau) / sum_j exp(cos(l_a_i, l_v_j) / tau) )
    Eq. 5  || l_v - l_a ||^2
    Eq. 7  || e_v - e_a ||^2

Losses are averaged over the frames of each clip, then over clips: they do not depend on padding or on the other clips
of a batch. All are computed in float32.

Shapes: B clips, N frames, d latent width; ``mask`` (B, N) is False where padded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from configs.models import Reduction


class Contrast(NamedTuple):
    """InfoNCE and retrieval accuracy of each clip; all (B,) float32.

    Attributes:
        loss: Eq. 4 in nats.
        bound: ln N - loss: lower bound of the mutual information of prediction and target in nats, at most ln N.
        top1: Share of frames whose most similar target in the clip is their own, 0 to 1.
        near1: Share of frames whose most similar target is their own or an adjacent one, 0 to 1.
    """

    loss: Tensor
    bound: Tensor
    top1: Tensor
    near1: Tensor


def info_nce(predicted: Tensor, target: Tensor, mask: Tensor, temperature: float = 0.07) -> Contrast:
    """Eq. 4: contrasts each predicted frame with all target frames of its clip by cosine similarity.

    Args:
        predicted: (B, N, d) predicted latents.
        target: (B, N, d) target latents.
        mask: (B, N) bool, False where padded; every clip needs at least one frame.
        temperature: Temperature tau.
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
        predicted: (B, N, d) predicted latents.
        target: (B, N, d) target latents.
        mask: (B, N) bool, False where padded.
        reduction: Reduction over dimensions. ``sum`` is the paper's formula; for wide latents it outweighs InfoNCE.
    """
    error = (predicted.float() - target.float()).square()
    return masked_mean(error.mean(-1) if reduction == "mean" else error.sum(-1), mask)


def velocity_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the differences between consecutive frames, (B,) float32; 0 for a clip of one frame."""
    change = predicted.float().diff(dim=1) - target.float().diff(dim=1)
    return masked_mean(change.square().mean(-1), mask[:, 1:] & mask[:, :-1])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean of (B, N) values over unmasked frames; 0 if there are none."""
    return values.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)
