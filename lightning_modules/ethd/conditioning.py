"""Conditioning of the U-Net on lips and expression by three cross-attentions (EmotiveTalk §3.3).

Their output projections start at zero, so a newly initialised network equals its backbone.

    H <- H + CrossAttn(H, l_a)                                            lip attention, everywhere
    H <- H + (CrossAttn(H, e_dri) - CrossAttn(H, e_ref)) M_face (1 - M_lip)      injector, Eq. 9-10
    H <- H + CrossAttn(H over time, e_dri over time) M_face (1 - M_lip)          expression temporal attention

Shapes: B clips, F frames, L = h*w latent positions, C channels, N tokens per latent, D token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.landmarks.boxes import mask_pyramid

POSITION_GROUPS = 32  # groups of positions in expression temporal attention, where their number is divisible


@dataclass(frozen=True)
class Conditions:
    """Tokens and masks that the U-Net's blocks attend to. None disables a branch.

    Attributes:
        lip: (B*F, N, D) lip tokens.
        driving: (B*F, N, D) tokens of e_dri.
        reference: (B*F, N, D) tokens of e_ref, equal in all frames; None injects ``driving`` alone, not a difference.
        timeline: (B, F, D) tokens of e_dri, one per frame.
        regions: Side of a level's grid -> (B, 1, L, 1) mask, 1 inside the face and outside the lips, else 0.
    """

    lip: Tensor | None = None
    driving: Tensor | None = None
    reference: Tensor | None = None
    timeline: Tensor | None = None
    regions: dict[int, Tensor] = field(default_factory=dict)

    def without(self, dropped: Tensor) -> Conditions:
        """Returns a copy with the lip or the expression branches disabled for some clips.

        Tokens are set to zero. Their attention values are then zero, so that only the output bias remains, as without
        the branch.

        Args:
            dropped: (B, 2) bool, True for clips without lips, and for those without expression.
        """
        lips, expression = (~dropped).float().unbind(1)

        def some(tokens: Tensor | None, kept: Tensor) -> Tensor | None:
            if tokens is None:
                return None
            return tokens * kept.repeat_interleave(len(tokens) // len(kept)).to(tokens)[:, None, None]

        return replace(
            self,
            lip=some(self.lip, lips),
            driving=some(self.driving, expression),
            reference=some(self.reference, expression),
            timeline=some(self.timeline, expression),
        )


def expression_regions(boxes: Tensor, size: tuple[int, int], levels: Sequence[int]) -> dict[int, Tensor]:
    """Computes M_face (1 - M_lip) for every level of the U-Net.

    Args:
        boxes: (B, 2, 4) lip and face boxes of the portrait in pixels.
        size: (W, H) of the image in pixels.
        levels: Side of each level's square grid.

    Returns:
        side -> (B, 1, L, 1) float32 mask of 0 and 1.
    """
    masks = mask_pyramid(boxes, size, levels)
    return {level: (face * (1 - lip)).flatten(2)[..., None] for level, (lip, face) in masks.items()}


class TokenProjector(nn.Module):
    """Projects one latent per frame to several tokens.

    Softmax over a single key is constant 1: the attention would ignore its queries and add the same vector at every
    position. Several tokens make it depend on the position.

    Args:
        latent_width: Width d of the latent.
        tokens: N.
        token_width: D.
    """

    def __init__(self, latent_width: int, tokens: int, token_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(latent_width, tokens * token_width)
        self.embedding = nn.Parameter(torch.randn(tokens, token_width) * token_width**-0.5)
        self.norm = nn.LayerNorm(token_width)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, F, d) -> (B*F, N, D)."""
        tokens = self.project(latent.flatten(0, 1)).unflatten(-1, self.embedding.shape)
        return self.norm(tokens + self.embedding)


class TimelineKeys(nn.Module):
    """Projects the driving expression to one key per frame, plus the frame position embedding that SVD uses.

    Args:
        latent_width: Width d of the latent.
        token_width: D, even.
    """

    def __init__(self, latent_width: int, token_width: int) -> None:
        super().__init__()
        self.project = TokenProjector(latent_width, 1, token_width)
        self.token_width = token_width

    def forward(self, latent: Tensor) -> Tensor:
        """(B, F, d) -> (B, F, D)."""
        keys = self.project(latent).unflatten(0, latent.shape[:2]).squeeze(2)
        places = torch.arange(latent.shape[1], device=latent.device)
        return keys + get_timestep_embedding(places, self.token_width, True, 0).to(keys.dtype)


class CrossAttention(nn.Module):
    """Cross-attention with the parameter names of diffusers' ``Attention``.

    Query, attention and output projection are separate methods, so that one query can attend to two sets of tokens.

    Args:
        channels: C.
        heads: Number of heads; must divide ``channels``.
        token_width: D.
        bias: Whether the output projection has a bias.

    Raises:
        ValueError: If ``heads`` does not divide ``channels``.
    """

    def __init__(self, channels: int, heads: int, token_width: int, bias: bool = True) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(token_width, channels, bias=False)
        self.to_v = nn.Linear(token_width, channels, bias=False)
        project = nn.Linear(channels, channels, bias=bias)
        nn.init.zeros_(project.weight)  # at step 0 the backbone is untouched
        if bias:
            nn.init.zeros_(project.bias)
        self.to_out = nn.ModuleList([project])

    @property
    def project(self) -> nn.Linear:
        """Output projection."""
        return cast(nn.Linear, self.to_out[0])

    def query(self, hidden: Tensor) -> Tensor:
        """(X, L, C) -> (X, heads, L, C / heads)."""
        return self._split(self.to_q(hidden))

    def attend(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Attends with ``query`` (X, heads, L, C / heads) to (X, N, D) tokens -> (X, L, C), not yet projected."""
        return attended(query, self._split(self.to_k(tokens)), self._split(self.to_v(tokens)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class LipAttention(CrossAttention):
    """Every position attends to the lip tokens of its frame. Replaces SVD's attention to its image embedding."""

    def forward(self, hidden: Tensor, tokens: Tensor | None) -> Tensor:
        """Returns the (B*F, L, C) update of the residual stream.

        Args:
            hidden: (B*F, L, C) normalised hidden states.
            tokens: (B*F, N, D) lip tokens, N >= 2; None for SVD's output bias alone.

        Raises:
            ValueError: If there is a single token per frame.
        """
        if tokens is None:
            return self.project.bias
        _several(tokens, "lip")
        return self.project(self.attend(self.query(hidden), tokens))


class ExpressionDecouplingInjector(nn.Module):
    """Cross-attends to two expressions and injects their difference inside the face (Eq. 9-10).

    With shared weights the two branches cancel exactly if ``e_dri`` equals ``e_ref``: a portrait that keeps its own
    expression stays unchanged. The linear output projection is applied once, to the difference. It has no bias, since
    the biases would cancel.

    Args:
        channels: C.
        heads: Number of attention heads.
        token_width: D.
        share_weights: Whether both expressions share one attention. Otherwise equal expressions do not cancel exactly.
    """

    def __init__(self, channels: int, heads: int, token_width: int, share_weights: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, heads, token_width, bias=False)
        self.reference = None if share_weights else CrossAttention(channels, heads, token_width, bias=False)

    def forward(self, hidden: Tensor, driving: Tensor, reference: Tensor | None, region: Tensor) -> Tensor:
        """Returns ``hidden`` with the expression changed inside ``region`` and bit-identical outside of it.

        Args:
            hidden: (B*F, L, C) hidden states.
            driving: (B*F, N, D) tokens of e_dri, N >= 2.
            reference: (B*F, N, D) tokens of e_ref; None injects the driving expression alone, not a difference.
            region: (B, 1, L, 1) mask, see ``Conditions``.

        Raises:
            ValueError: If an expression has a single token per frame.
        """
        _several(driving, "expression")
        normed, attention = self.norm(hidden), self.attention
        query = attention.query(normed)
        found, project = attention.attend(query, driving), attention.project
        if reference is None:
            change = project(found)
        elif self.reference is None:
            change = project(found - attention.attend(query, reference))
        else:
            other = self.reference
            change = project(found) - other.project(other.attend(other.query(normed), reference))
        # Masked last, so that nothing leaks outside the face.
        return hidden + masked(change, region)


class ExpressionTemporalAttention(CrossAttention):
    """Every position of every frame attends to the driving expression of all frames.

    A clip's keys are equal at all positions, so they are computed once for F*L queries. Positions attend in groups,
    each with a copy of the keys: on a GPU, the backward pass of flash attention runs clips, heads and blocks of keys in
    parallel, but goes through the queries one after the other. Replaces the attention of SVD's temporal layers to the
    image embedding. SVD's output bias is kept at all positions.
    """

    def forward(self, hidden: Tensor, timeline: Tensor | None, region: Tensor | None) -> Tensor:
        """Returns the (B*L, F, C) update of the residual stream.

        Args:
            hidden: (B*L, F, C) normalised hidden states.
            timeline: (B, F, D) tokens of e_dri; None for SVD's output bias alone.
            region: (B, 1, L, 1) mask, see ``Conditions``.
        """
        weight, bias = self.project.weight, self.project.bias
        if timeline is None or region is None:
            return bias
        clips, frames = timeline.shape[:2]
        groups = POSITION_GROUPS if len(hidden) // clips % POSITION_GROUPS == 0 else 1
        query = self.query(hidden.unflatten(0, (clips * groups, -1)).flatten(1, 2))
        key, value = (self._split(project(timeline)).repeat_interleave(groups, 0) for project in (self.to_k, self.to_v))
        found = attended(query, key, value).unflatten(0, (clips, groups)).unflatten(2, (-1, frames)).flatten(1, 2)
        inside = region.transpose(1, 2).to(hidden)  # (B, L, 1, 1)
        change = F.linear(found, weight)
        # Under autocast the bias is float32, and would turn the residual stream into float32.
        return torch.addcmul(bias.to(change), change, inside).flatten(0, 1)


class AbsentAttention(nn.Module):
    """Replaces a branch that an ablation removes; only SVD's output bias remains."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_out = nn.ModuleList([OutputBias(channels)])

    def forward(self, hidden: Tensor, *_: Tensor | None) -> Tensor:
        """Returns the (C,) bias and ignores all conditions."""
        return cast(OutputBias, self.to_out[0]).bias


class OutputBias(nn.Module):
    """Bias of an output projection without its weight; keeps the parameter name of SVD."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (X, heads, L, c) queries to keys and values -> (X, L, heads * c)."""
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def masked(change: Tensor, region: Tensor) -> Tensor:
    """Multiplies (B*F, L, C) by a (B, 1, L, 1) mask of 0 and 1."""
    return (change.unflatten(0, (len(region), -1)) * region.to(change)).flatten(0, 1)


def _several(tokens: Tensor, name: str) -> None:
    if tokens.shape[1] < 2:
        raise ValueError(f"{name}: one token per frame, expected at least two; attention over one key ignores queries")
