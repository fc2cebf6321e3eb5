"""Spatio-temporal transformer of Stable Video Diffusion, with ETHD's attentions in place of the image attention.

diffusers' temporal block receives the conditions of frame 0 only; this one receives those of all frames. Parameter
names are those of diffusers, so that SVD's weights can be loaded.

    spatial:   self-attention, lip attention, injector, feed-forward          per frame, over L positions
    temporal:  feed-forward, self-attention, expression attention, feed-forward      per position, over F frames

Shapes: B clips, F frames, C channels, L = h*w latent positions.
"""

from __future__ import annotations

from dataclasses import dataclass

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
)


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

    def forward(self, hidden: Tensor, conditions: Conditions, region: Tensor | None) -> Tensor:
        """(B*F, L, C) -> (B*F, L, C)."""
        hidden = self.attn1(self.norm1(hidden)) + hidden
        hidden = self.attn2(self.norm2(hidden), conditions.lip) + hidden
        if self.injector is not None and conditions.driving is not None and region is not None:
            hidden = self.injector(hidden, conditions.driving, conditions.reference, region)
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

    def forward(self, hidden: Tensor, conditions: Conditions, region: Tensor | None, frames: int) -> Tensor:
        """(B*F, L, C) -> (B*F, L, C)."""
        length = hidden.shape[1]
        hidden = hidden.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (B*L, F, C)
        hidden = self.ff_in(self.norm_in(hidden)) + hidden
        hidden = self.attn1(self.norm1(hidden)) + hidden
        hidden = self.attn2(self.norm2(hidden), conditions.timeline, region) + hidden
        hidden = self.ff(self.norm3(hidden)) + hidden
        return hidden.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)


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

    def forward(self, hidden: Tensor, conditions: Conditions, video: Tensor) -> Tensor:
        """(B*F, C, h, w) -> the same shape.

        Args:
            hidden: (B*F, C, h, w) hidden states.
            conditions: Tokens and masks to attend to.
            video: (B, F) zeros; diffusers' indicator of video frames as opposed to single images.

        Raises:
            ValueError: If ``conditions`` has no mask for this level.
        """
        height, width = hidden.shape[-2:]
        frames = video.shape[1]
        region = self._region(conditions, height, width)
        tokens = self.proj_in(self.norm(hidden).flatten(2).transpose(1, 2))
        spatial = self.transformer_blocks[0](tokens, conditions, region)
        places = self.time_pos_embed(self.time_proj(torch.arange(frames, device=hidden.device)).to(hidden.dtype))
        temporal = (spatial.unflatten(0, (-1, frames)) + places[:, None]).flatten(0, 1)
        temporal = self.temporal_transformer_blocks[0](temporal, conditions, region, frames)
        mixed = self.time_mixer(spatial, temporal, image_only_indicator=video)
        return self.proj_out(mixed).transpose(1, 2).unflatten(2, (height, width)).contiguous() + hidden

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
