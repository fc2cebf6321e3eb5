"""Audio-to-lip projector: a Perceiver that predicts a frame's lip latent from the audio around it (EmotiveTalk §3.2).

Learned latents attend to the audio tokens of five frames, then to each other, ``depth`` times (Jaegle et al. 2021).
Their mean gives the lip latent. Frames interact only through the audio window: sequences of any length can be
processed, and InfoNCE must distinguish neighbouring frames by their audio alone.

Shapes: B clips, N frames, W = 5 window frames, L audio layers, D audio width, C width, K latents, d_l lip width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REACH = 2  # audio frames on either side
WINDOW = 2 * REACH + 1


def audio_windows(audio: Tensor, mask: Tensor) -> Tensor:
    """Gathers the audio of the five frames around every frame; repeats the first and last frame beyond a clip's ends.

    Args:
        audio: (B, N, L, D) features per frame.
        mask: (B, N) bool, False where padded.

    Returns:
        (B, N, 5, L, D). Windows never contain padding, but repeat their clip's last frame instead.
    """
    frames = torch.arange(audio.shape[1], device=audio.device)
    around = frames[:, None] + torch.arange(-REACH, REACH + 1, device=audio.device)
    last = (mask.sum(1) - 1).clamp(min=0)[:, None, None]
    index = torch.minimum(around.clamp(min=0)[None], last)
    return audio[torch.arange(len(audio), device=audio.device)[:, None, None], index]


class AudioToLip(nn.Module):
    """Predicts lip latents l_a from audio features, frame by frame.

    Args:
        audio_layers: L.
        audio_width: D.
        lip_width: d_l.
        width: C.
        depth: Number of blocks, each a cross- and a self-attention.
        latents: K.
        head_width: Channels per attention head; must divide ``width``.
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
        self.offset_embedding = nn.Parameter(0.5 * torch.randn(WINDOW, 1, width))  # tokens have unit variance
        self.latents = nn.Parameter(0.02 * torch.randn(latents, width))
        self.audio_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(PerceiverBlock(width, head_width) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, lip_width))

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """(B, N, L, D) audio features and their (B, N) mask -> (B, N, d_l) standardised lip latents."""
        frames = self.audio_norm(self.project(audio.to(self.project.weight.dtype)) + self.layer_embedding)
        latents = self.latents.expand(mask.numel(), -1, -1)
        for block in cast(Sequence[PerceiverBlock], self.blocks):
            # Keys and values are linear in frame + offset, so each frame is projected once for its five windows.
            key_value = audio_windows(block.listen.to_kv(frames), mask) + block.listen.to_kv(self.offset_embedding)
            latents = block(latents, key_value.flatten(2, 3).flatten(0, 1))
        return self.head(latents.mean(1)).unflatten(0, audio.shape[:2])


class PerceiverBlock(nn.Module):
    """Cross-attention of the latents to the audio, then self-attention; each followed by a feed-forward layer."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.listen = Attention(width, head_width)
        self.listen_mlp = feed_forward(width)
        self.exchange = Attention(width, head_width)
        self.exchange_mlp = feed_forward(width)

    def forward(self, latents: Tensor, key_value: Tensor) -> Tensor:
        """(M, K, C) latents and (M, T, 2C) keys and values from ``listen.to_kv`` -> (M, K, C)."""
        latents = latents + self.listen.attend(latents, key_value)
        latents = latents + self.listen_mlp(latents)
        latents = latents + self.exchange(latents)
        return latents + self.exchange_mlp(latents)


class Attention(nn.Module):
    """Pre-norm multi-head attention of ``x`` to ``context``, or to itself.

    Args:
        width: C.
        head_width: Channels per head.

    Raises:
        ValueError: If ``head_width`` does not divide ``width``.
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
        """Returns the (M, T, C) update of ``x``.

        Args:
            x: (M, T, C) queries, not normalised.
            context: (M, S, C) normalised keys and values; None for self-attention.
            allowed: Boolean mask that broadcasts to (M, heads, T, S), True where attention is allowed.
        """
        return self.attend(x, self.to_kv(self.norm(x) if context is None else context), allowed)

    def attend(self, x: Tensor, key_value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Like ``forward``, with (M, S, 2C) projected keys and values."""
        projected = (self.to_q(self.norm(x)), *key_value.chunk(2, dim=-1))
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projected)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.to_out(attended.transpose(1, 2).flatten(2))


def feed_forward(width: int) -> nn.Sequential:
    """Pre-norm feed-forward layer with four times the width inside."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
