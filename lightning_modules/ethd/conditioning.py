"""How lips and expression reach the U-Net: lip attention, expression injector, temporal attention (EmotiveTalk §3.3).

All three are cross-attentions whose output projections start at zero, so a fresh network is the backbone alone.

    H <- H + CrossAttn(H, l_a)                                            lip attention, everywhere
    H <- H + (CrossAttn(H, e_dri) - CrossAttn(H, e_ref)) M_face (1 - M_lip)      injector, Eq. 9-10
    H <- H + CrossAttn(H over time, e_dri over time) M_face (1 - M_lip)          expression temporal attention

Shapes: B clips, F frames, L = h*w latent positions, C channels, N tokens per latent, D token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.landmarks.boxes import mask_pyramid


@dataclass(frozen=True)
class Conditions:
    """What the U-Net's blocks attend to. A source that is None leaves its branch out.

    Attributes:
        lip: (B*F, N, D) lip tokens.
        driving: (B*F, N, D) tokens of e_dri, frame by frame.
        reference: (B*F, N, D) tokens of e_ref, alike in all frames; None injects ``driving`` without a difference.
        timeline: (B, F, D) e_dri as one key per frame.
        regions: side of a level's grid -> (B, 1, L, 1), 1 inside the face and outside the lips, else 0.
    """

    lip: Tensor | None = None
    driving: Tensor | None = None
    reference: Tensor | None = None
    timeline: Tensor | None = None
    regions: dict[int, Tensor] = field(default_factory=dict)

    def without(self, dropped: Tensor) -> Conditions:
        """The same with every branch switched off for some clips.

        Tokens of zeros have values of zeros: what attends to them adds the output bias alone, like an absent branch.

        Args:
            dropped: (B,) bool.
        """
        kept = (~dropped).float()

        def some(tokens: Tensor | None) -> Tensor | None:
            if tokens is None:
                return None
            return tokens * kept.repeat_interleave(len(tokens) // len(kept)).to(tokens)[:, None, None]

        return Conditions(some(self.lip), some(self.driving), some(self.reference), some(self.timeline), self.regions)


def expression_regions(boxes: Tensor, size: tuple[int, int], levels: Sequence[int]) -> dict[int, Tensor]:
    """M_face (1 - M_lip) for every level of the U-Net.

    Args:
        boxes: (B, 2, 4) lip and face boxes of the portrait in pixels.
        size: (W, H) of the picture the boxes belong to.
        levels: side of each level's square grid.

    Returns:
        side -> (B, 1, L, 1) float32 of 0 and 1.
    """
    masks = mask_pyramid(boxes, size, levels)
    return {level: (face * (1 - lip)).flatten(2)[..., None] for level, (lip, face) in masks.items()}


class TokenProjector(nn.Module):
    """Spreads one latent per frame over several tokens.

    Attention over a single key is the constant 1: it would add the same vector everywhere and never learn where to
    look. Several tokens per latent give the queries a choice.

    Args:
        latent_width: d of the latent.
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
    """One key per frame from the driving expression, marked with its place in the window as SVD marks its queries.

    Args:
        latent_width: d of the latent.
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
    """Cross-attention with the parameter names of diffusers' ``Attention``, in parts: a query may be used twice.

    Args:
        channels: C.
        heads: of the attention; must divide ``channels``.
        token_width: D.
        bias: whether the output projection has one.

    Raises:
        ValueError: if ``heads`` does not divide ``channels``.
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
        """The output projection."""
        return cast(nn.Linear, self.to_out[0])

    def query(self, hidden: Tensor) -> Tensor:
        """(X, L, C) -> (X, heads, L, C / heads)."""
        return self._split(self.to_q(hidden))

    def attend(self, query: Tensor, tokens: Tensor) -> Tensor:
        """What ``query`` finds in (X, N, D) tokens: (X, L, C), before the output projection."""
        key, value = self._split(self.to_k(tokens)), self._split(self.to_v(tokens))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class LipAttention(CrossAttention):
    """Lip tokens to all positions of their frame. Stands where SVD attends to its image embedding."""

    def forward(self, hidden: Tensor, tokens: Tensor | None) -> Tensor:
        """What to add to the residual stream: (B*F, L, C).

        Args:
            hidden: (B*F, L, C) normalised.
            tokens: (B*F, N, D) with N >= 2, or None for SVD's output bias alone.

        Raises:
            ValueError: if a frame has a single token.
        """
        if tokens is None:
            return self.project.bias
        _several(tokens, "lip")
        return self.project(self.attend(self.query(hidden), tokens))


class ExpressionDecouplingInjector(nn.Module):
    """Cross-attends to two expressions and injects their difference inside the face (Eq. 9-10).

    With one set of weights the two branches cancel exactly when ``e_dri`` equals ``e_ref``: a portrait driven by its
    own expression is left alone. The output projection is linear and so is applied once, to the difference; its bias
    would cancel and does not exist.

    Args:
        channels: C.
        heads: of the attentions.
        token_width: D.
        share_weights: one attention for both expressions; else each has its own, and nothing cancels exactly.
    """

    def __init__(self, channels: int, heads: int, token_width: int, share_weights: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, heads, token_width, bias=False)
        self.reference = None if share_weights else CrossAttention(channels, heads, token_width, bias=False)

    def forward(self, hidden: Tensor, driving: Tensor, reference: Tensor | None, region: Tensor) -> Tensor:
        """``hidden`` with the expression changed inside ``region`` and bit-identical outside it.

        Args:
            hidden: (B*F, L, C) hidden states.
            driving: (B*F, N, D) tokens of e_dri, N >= 2.
            reference: (B*F, N, D) tokens of e_ref; None injects the driving tokens as they are.
            region: (B, 1, L, 1), see ``Conditions``.

        Raises:
            ValueError: if an expression has a single token.
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

    The keys of a clip are the same at all its positions, so they are made once and shared by F*L queries. Stands where
    SVD's temporal layers attend to the image embedding, whose output bias stays everywhere.
    """

    def forward(self, hidden: Tensor, timeline: Tensor | None, region: Tensor | None) -> Tensor:
        """What to add to the residual stream: (B*L, F, C).

        Args:
            hidden: (B*L, F, C) normalised.
            timeline: (B, F, D), or None for SVD's output bias alone.
            region: (B, 1, L, 1), see ``Conditions``.
        """
        weight, bias = self.project.weight, self.project.bias
        if timeline is None or region is None:
            return bias
        clips, frames = timeline.shape[:2]
        query = self.query(hidden.unflatten(0, (clips, -1)).flatten(1, 2))
        found = self.attend(query, timeline).unflatten(1, (-1, frames))
        inside = region.transpose(1, 2).to(hidden)  # (B, L, 1, 1)
        return torch.addcmul(bias, F.linear(found, weight), inside).flatten(0, 1)


class AbsentAttention(nn.Module):
    """A branch that an ablation leaves out: SVD's output bias is what remains of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_out = nn.ModuleList([OutputBias(channels)])

    def forward(self, hidden: Tensor, *_: Tensor | None) -> Tensor:
        """(C,) whatever the conditions are."""
        return cast(OutputBias, self.to_out[0]).bias


class OutputBias(nn.Module):
    """The bias of an output projection without the projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


def masked(change: Tensor, region: Tensor) -> Tensor:
    """(B*F, L, C) times a (B, 1, L, 1) region of 0 and 1."""
    return (change.unflatten(0, (len(region), -1)) * region.to(change)).flatten(0, 1)


def _several(tokens: Tensor, name: str) -> None:
    if tokens.shape[1] < 2:
        raise ValueError(f"{name}: one token per frame; attention over one key ignores the queries, use two or more")
