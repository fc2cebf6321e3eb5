"""Audio-to-lip projector: a Perceiver that turns the sound around a frame into its lip latent (EmotiveTalk §3.2).

A few learned latents look at the audio tokens of five frames (Jaegle et al. 2021): cross-attention, then
self-attention, depth times; their mean is the lip latent. Frames know nothing of each other beyond the window, so any
length runs and InfoNCE has to tell neighbours apart by sound alone.

Shapes: B clips, N frames, W = 5 window frames, L audio layers, D audio width, C width, K latents, d_l lip width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REACH = 2  # frames heard on either side
WINDOW = 2 * REACH + 1


def audio_windows(audio: Tensor, mask: Tensor) -> Tensor:
    """The audio of the five frames around every frame; beyond a clip's ends its first or last frame is repeated.

    Args:
        audio: (B, N, L, D).
        mask: (B, N) bool, True for the first frames of each clip.

    Returns:
        (B, N, 5, L, D); padded frames hold their clip's last frame, never the padding.
    """
    frames = torch.arange(audio.shape[1], device=audio.device)
    heard = frames[:, None] + torch.arange(-REACH, REACH + 1, device=audio.device)
    last = (mask.sum(1) - 1).clamp(min=0)[:, None, None]
    index = torch.minimum(heard.clamp(min=0)[None], last)
    return audio[torch.arange(len(audio), device=audio.device)[:, None, None], index]


class AudioToLip(nn.Module):
    """l_a from audio features, frame by frame.

    Args:
        audio_layers: L.
        audio_width: D.
        lip_width: d_l.
        width: C.
        depth: times cross- and self-attention alternate.
        latents: K.
        head_width: channels per attention head; must divide ``width``.
    """

    def __init__(
        self,
        audio_layers: int,
        audio_width: int,
        lip_width: int,
        *,
        width: int = 512,
        depth: int = 4,
        latents: int = 4,
        head_width: int = 64,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(audio_width, width)
        self.layer_embedding = nn.Parameter(0.02 * torch.randn(audio_layers, width))
        self.offset_embedding = nn.Parameter(0.5 * torch.randn(WINDOW, 1, width))  # beside tokens of unit variance
        self.latents = nn.Parameter(0.02 * torch.randn(latents, width))
        self.audio_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(PerceiverBlock(width, head_width) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, lip_width))

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """(B, N, L, D) audio features and their (B, N) mask -> (B, N, d_l) standardised lip latents."""
        frames = self.audio_norm(self.project(audio.to(self.project.weight.dtype)) + self.layer_embedding)
        latents = self.latents.expand(mask.numel(), -1, -1)
        for block in cast(Sequence[PerceiverBlock], self.blocks):
            # Keys and values are linear in frame + offset: made once per frame, though five windows hear it.
            heard = audio_windows(block.listen.to_kv(frames), mask) + block.listen.to_kv(self.offset_embedding)
            latents = block(latents, heard.flatten(2, 3).flatten(0, 1))
        return self.head(latents.mean(1)).unflatten(0, audio.shape[:2])


class PerceiverBlock(nn.Module):
    """Latents look at the audio, then at each other; a feed-forward layer after either."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.listen = Attention(width, head_width)
        self.listen_mlp = feed_forward(width)
        self.exchange = Attention(width, head_width)
        self.exchange_mlp = feed_forward(width)

    def forward(self, latents: Tensor, heard: Tensor) -> Tensor:
        """(M, K, C) latents and (M, T, 2C) keys and values made by ``listen.to_kv`` -> (M, K, C)."""
        latents = latents + self.listen.attend(latents, heard)
        latents = latents + self.listen_mlp(latents)
        latents = latents + self.exchange(latents)
        return latents + self.exchange_mlp(latents)


class Attention(nn.Module):
    """Pre-norm multi-head attention of ``x`` to ``context``, or to itself.

    Args:
        width: C.
        head_width: channels per head.

    Raises:
        ValueError: if ``head_width`` does not divide ``width``.
    """

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        if width % head_width:
            raise ValueError(f"head_width {head_width} does not divide width {width}")
        self.heads = width // head_width
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None, allowed: Tensor | None = None) -> Tensor:
        """What is added to ``x``.

        Args:
            x: (M, T, C).
            context: (M, S, C), already normalised; None for ``x`` itself.
            allowed: boolean, broadcast to (M, heads, T, S), True where attention may look.
        """
        return self.attend(x, self.to_kv(self.norm(x) if context is None else context), allowed)

    def attend(self, x: Tensor, key_value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The same with (M, S, 2C) keys and values already made."""
        projected = (self.to_q(self.norm(x)), *key_value.chunk(2, dim=-1))
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projected)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.to_out(attended.transpose(1, 2).flatten(2))


def feed_forward(width: int) -> nn.Sequential:
    """Pre-norm two-layer network, four times wider inside."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
