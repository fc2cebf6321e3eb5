"""Spatio-temporal transformer of Stable Video Diffusion, with ETHD's attentions in place of the image attention.

diffusers' temporal block receives the conditions of frame 0 only; this one receives those of all frames. Parameter
names are those of diffusers, so that SVD's weights can be loaded.

    spatial:   self-attention, lip attention, injector, feed-forward          per frame, over L positions
    temporal:  feed-forward, self-attention, expression attention, feed-forward      per position, over F frames

Shapes: B clips, F frames, C channels, L = h*w latent positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import AlphaBlender
from torch import Tensor, nn

from lightning_modules.ethd.conditioning import (
    AbsentAttention,
    Conditions,
    ExpressionDecouplingInjector,
    ExpressionTemporalAttention,
    LipAttention,
    attended,
)

Run = Callable[..., Any]  # calls a segment with its inputs, checkpointed or not
LARGE = 4  # a grid is large from this ratio of positions to channels
PARTS = 4  # parts of the frames that feed-forward layers are computed on, one after the other


@dataclass(frozen=True)
class Branches:
    """Conditioning branches of a network; the paper's ablations remove one.

    Attributes:
        lip: Whether there is lip attention.
        expression: Whether there are the injector and expression temporal attention.
        share_weights: Whether the injector uses one attention for both expressions.
    """

    lip: bool = True
    expression: bool = True
    share_weights: bool = True


class SpatialBlock(nn.Module):
    """Transformer block over the positions of a frame."""

    def __init__(self, channels: int, heads: int, token_width: int, branches: Branches) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads, dim_head=channels // heads)
        self.norm2 = nn.LayerNorm(channels) if branches.lip else nn.Identity()
        self.attn2 = LipAttention(channels, heads, token_width) if branches.lip else AbsentAttention(channels)
        self.injector = (
            ExpressionDecouplingInjector(channels, heads, token_width, branches.share_weights)
            if branches.expression
            else None
        )
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B*F, L, C) -> queries, keys and values of the self-attention, each (B*F, heads, L, C / heads)."""
        attn, normed = self.attn1, self.norm1(hidden)
        query, key, value = (
            project(normed).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        return query, key, value

    def attend(self, hidden: Tensor, found: Tensor, conditions: Conditions, region: Tensor | None) -> Tensor:
        """Adds the result of the self-attention, not yet projected, and the cross-attentions.

        Args:
            hidden: (B*F, L, C) hidden states.
            found: (B*F, L, C) result of ``attended``.
            conditions: Tokens and masks to attend to.
            region: (B, 1, L, 1) mask, see ``Conditions``.
        """
        hidden = self.attn1.to_out[0](found) + hidden
        hidden = self.attn2(self.norm2(hidden), conditions.lip) + hidden
        if self.injector is not None and conditions.driving is not None and region is not None:
            hidden = self.injector(hidden, conditions.driving, conditions.reference, region)
        return hidden

    def feed(self, hidden: Tensor) -> Tensor:
        """Feed-forward layer: (B*F, L, C) -> (B*F, L, C)."""
        return self.ff(self.norm3(hidden)) + hidden


class TemporalBlock(nn.Module):
    """Transformer block over the frames of a position."""

    def __init__(self, channels: int, heads: int, token_width: int, branches: Branches) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads, dim_head=channels // heads)
        self.norm2 = nn.LayerNorm(channels) if branches.expression else nn.Identity()
        self.attn2 = (
            ExpressionTemporalAttention(channels, heads, token_width)
            if branches.expression
            else AbsentAttention(channels)
        )
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def feed_in(self, hidden: Tensor, places: Tensor) -> Tensor:
        """First feed-forward layer: (B*F, L, C) hidden states, (B*F, 1, C) embedded frame positions -> (B*F, L, C)."""
        hidden = hidden + places
        return self.ff_in(self.norm_in(hidden)) + hidden

    def attend(self, hidden: Tensor, conditions: Conditions, region: Tensor | None, clips: int) -> Tensor:
        """Attentions: (B*F, L, C) -> (B*F, L, C)."""
        length = hidden.shape[1]
        hidden = hidden.unflatten(0, (clips, -1)).transpose(1, 2).flatten(0, 1)  # (B*L, F, C)
        hidden = self.attn1(self.norm1(hidden)) + hidden
        hidden = self.attn2(self.norm2(hidden), conditions.timeline, region) + hidden
        return hidden.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)

    def feed(self, hidden: Tensor) -> Tensor:
        """Second feed-forward layer: (B*F, L, C) -> (B*F, L, C)."""
        return self.ff(self.norm3(hidden)) + hidden


class SpatioTemporalTransformer(nn.Module):
    """Residual block that blends a spatial and a temporal transformer block with a learned weight.

    Args:
        channels: C, a multiple of 32.
        heads: Number of heads of every attention.
        token_width: Width of the condition tokens.
        branches: Conditioning branches.
    """

    def __init__(self, channels: int, heads: int, token_width: int, branches: Branches) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, heads, token_width, branches)])
        self.temporal_transformer_blocks = nn.ModuleList([TemporalBlock(channels, heads, token_width, branches)])
        self.time_proj = Timesteps(channels, True, 0)
        self.time_pos_embed = TimestepEmbedding(channels, 4 * channels, out_dim=channels)
        self.time_mixer = AlphaBlender(alpha=0.5, merge_strategy="learned_with_images")
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor, conditions: Conditions, frames: int, run: Run) -> Tensor:
        """(B*F, C, h, w) -> the same shape.

        Args:
            hidden: (B*F, C, h, w) hidden states.
            conditions: Tokens and masks to attend to.
            frames: F.
            run: Function that calls a segment with its inputs, checkpointed or not.

        Raises:
            ValueError: If ``conditions`` has no mask for this level.
        """
        height, width = hidden.shape[-2:]
        region = self._region(conditions, height, width)
        over_space = cast(SpatialBlock, self.transformer_blocks[0])
        over_time = cast(TemporalBlock, self.temporal_transformer_blocks[0])
        places = self.time_pos_embed(self.time_proj(torch.arange(frames, device=hidden.device)).to(hidden.dtype))
        # On large grids, attention costs more time than the layers around it, and feed-forward layers most memory:
        # the result of attention is stored instead of recomputed, and feed-forward layers run on a part of the frames.
        large = height * width >= LARGE * hidden.shape[1]
        found = attended(*run(self._project, over_space, hidden)) if large else None
        spatial = run(self._attend_space, over_space, hidden, found, conditions, region)
        spatial = _in_parts(run, over_space.feed, large, spatial)
        temporal = _in_parts(run, over_time.feed_in, large, spatial, places.repeat(len(spatial) // frames, 1)[:, None])
        temporal = run(over_time.attend, temporal, conditions, region, len(hidden) // frames)
        temporal = _in_parts(run, over_time.feed, large, temporal)
        return run(self._blend, hidden, spatial, temporal)

    def _tokens(self, hidden: Tensor) -> Tensor:
        return self.proj_in(self.norm(hidden).flatten(2).transpose(1, 2))

    def _project(self, block: SpatialBlock, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return block.project(self._tokens(hidden))

    def _attend_space(
        self,
        block: SpatialBlock,
        hidden: Tensor,
        found: Tensor | None,
        conditions: Conditions,
        region: Tensor | None,
    ) -> Tensor:
        tokens = self._tokens(hidden)
        if found is None:
            found = attended(*block.project(tokens))
        return block.attend(tokens, found, conditions, region)

    def _blend(self, hidden: Tensor, spatial: Tensor, temporal: Tensor) -> Tensor:
        mixed = self.proj_out(blend(self.time_mixer, spatial, temporal))
        return mixed.transpose(1, 2).unflatten(2, hidden.shape[-2:]).contiguous() + hidden

    @staticmethod
    def _region(conditions: Conditions, height: int, width: int) -> Tensor | None:
        if conditions.driving is None and conditions.timeline is None:
            return None
        if height != width or height not in conditions.regions:
            raise ValueError(
                f"no face mask for the U-Net's {height} x {width} level, found {sorted(conditions.regions)}; compute "
                "them with expression_regions(boxes, size, unet.grid_sides(latent side))"
            )
        return conditions.regions[height]


def _in_parts(run: Run, layer: Callable[..., Tensor], large: bool, *inputs: Tensor) -> Tensor:
    """Runs a layer that treats the B*F frames independently, one segment per part of the frames on large grids."""
    if not (large and torch.is_grad_enabled()):
        return run(layer, *inputs)
    parts = zip(*(each.chunk(PARTS) for each in inputs), strict=True)
    return torch.cat([run(layer, *part) for part in parts])


def blend(mixer: AlphaBlender, spatial: Tensor, temporal: Tensor) -> Tensor:
    """Weighted mean of two tensors of one shape by the learned weight of diffusers' ``AlphaBlender``, for videos."""
    dtype = torch.promote_types(spatial.dtype, temporal.dtype)  # they differ under autocast
    share = cast(Tensor, mixer.mix_factor).sigmoid().to(spatial.device, dtype)
    return torch.lerp(temporal.to(dtype), spatial.to(dtype), share)
