"""Di-CTE: a diffusion transformer that predicts an expression sequence from audio, identity and an emotion condition.

EmotiveTalk §3.2, Eq. 7 and Fig. 2b. The network S predicts the clean sequence:

    L_exp = || e_v - S(e_v(t), t, x_ref, A_w, e_cond) ||^2

Audio embeddings are added to the noisy sequence per frame, the identity vector is added to all frames. The diffusion
step and e_cond modulate every block (AdaLN-Zero, Peebles & Xie 2023). Rotary position embeddings are relative, so
sequences may have any length.

Shapes: B clips, N frames, L audio layers, D audio width, C width, H heads, d_e expression width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.models import AudioMode, ConditionMode
from lightning_modules.vaid.audio_to_lip import WINDOW, Attention, audio_windows, feed_forward
from lightning_modules.vaid.identity import IdentityEncoder

UNSCALED = (0.0, 1.0, 0.0, 0.0, 1.0, 0.0)  # added to shift, scale and gate: scales are 1 + prediction
CONDITION_TOKENS = 4  # at least 2: attention over a single token ignores its queries


@dataclass(frozen=True)
class Surroundings:
    """Embedded conditions that are constant over the diffusion steps of a clip.

    Attributes:
        audio: (B, N, C) audio embedding per frame.
        identity: (B, C) identity embedding.
        mask: (B, N) bool, False where padded.
        present: (B, 1, 1, N) the mask of self-attention; None if nothing is padded.
        rotation: (2, N, head width) float32 factors of the rotary position embedding, see ``rotation``.
    """

    audio: Tensor
    identity: Tensor
    mask: Tensor
    present: Tensor | None
    rotation: Tensor

    def window(self, frames: slice) -> Surroundings:
        """Returns the conditions of a range of frames. Their positions start at 0: only distances have an effect."""
        audio, mask = self.audio[:, frames], self.mask[:, frames]
        present = None if self.present is None else self.present[..., frames]
        return Surroundings(audio, self.identity, mask, present, self.rotation[:, : mask.shape[1]])


@dataclass(frozen=True)
class Modulation:
    """Embedded diffusion steps and emotion condition.

    Attributes:
        factors: (B, blocks, 6, 1, C) shift, scale and gate of self-attention and of the feed-forward layer.
        tokens: (B, tokens, C) tokens of e_cond with ``condition_mode=cross_attn``, else None.
    """

    factors: Tensor
    tokens: Tensor | None

    def each(self, clips: int) -> list[Modulation]:
        """Splits the rows of several diffusion steps, ``clips`` rows each, into one modulation per step."""
        factors = self.factors.split(clips)
        tokens = [None] * len(factors) if self.tokens is None else self.tokens.split(clips)
        return [Modulation(*pair) for pair in zip(factors, tokens, strict=True)]


class DiCTE(nn.Module):
    """Predicts clean standardised expressions from noisy ones.

    Args:
        audio_layers: L.
        audio_width: D.
        expression_width: d_e.
        width: C.
        depth: Number of transformer blocks.
        head_width: Channels per attention head, even.
        identity_widths: Channels of the identity encoder's stages.
        identity_size: Side of the identity encoder's input in pixels.
        audio_mode: ``add`` (Fig. 2b), or ``cross_attn``: frame i attends to the audio of frames i - 1 to i + 1.
        condition_mode: ``adaln``, or ``cross_attn`` to tokens projected from e_cond.
        droppable: Whether to learn a vector that replaces a dropped e_cond (classifier-free guidance).
    """

    def __init__(
        self,
        audio_layers: int,
        audio_width: int,
        expression_width: int,
        *,
        width: int = 512,
        depth: int = 8,
        head_width: int = 64,
        identity_widths: Sequence[int] = (64, 128, 256, 512),
        identity_size: int = 256,
        audio_mode: AudioMode = "add",
        condition_mode: ConditionMode = "adaln",
        droppable: bool = False,
    ) -> None:
        super().__init__()
        self.audio_mode, self.condition_mode, self.head_width = audio_mode, condition_mode, head_width
        self.code = nn.Linear(expression_width, width)
        self.layer_weights = nn.Parameter(torch.zeros(audio_layers))
        self.audio = nn.Sequential(nn.Linear(WINDOW * audio_width, width), nn.LayerNorm(width))
        self.identity = IdentityEncoder(identity_widths, identity_size, width)
        self.step = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        # Unused parameters must not exist: data-parallel training waits for the gradient of every parameter.
        self.no_condition = nn.Parameter(torch.zeros(expression_width)) if droppable else None
        self.condition: nn.Module = nn.Linear(expression_width, width)
        if condition_mode == "cross_attn":
            self.condition = nn.Sequential(
                nn.Linear(expression_width, CONDITION_TOKENS * width),
                nn.Unflatten(-1, (CONDITION_TOKENS, width)),
                nn.LayerNorm(width),
            )
        self.blocks = nn.ModuleList(
            Block(width, head_width, audio_mode == "cross_attn", condition_mode == "cross_attn") for _ in range(depth)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, expression_width)
        )

    def surroundings(self, audio: Tensor, portrait: Tensor, mask: Tensor, padded: bool = True) -> Surroundings:
        """Embeds the conditions that are constant over the diffusion steps.

        Args:
            audio: (B, N, L, D) audio features.
            portrait: (B, H, W, 3) uint8 RGB portrait x_ref.
            mask: (B, N) bool, False where padded.
            padded: Whether frames may be padded. Attention without a mask takes fewer operations.
        """
        share = self.layer_weights.softmax(0)
        mixed = torch.einsum("bnld,l->bnd", audio.to(share.dtype), share)
        windows = audio_windows(mixed[:, :, None], mask).flatten(2)
        turned = rotation(mask.shape[1], self.head_width, mask.device)
        present = mask[:, None, None, :] if padded else None
        return Surroundings(self.audio(windows), self.identity(portrait), mask, present, turned)

    def forward(
        self, noisy: Tensor, t: Tensor, around: Surroundings, e_cond: Tensor, dropped: Tensor | None = None
    ) -> Tensor:
        """Predicts the clean sequence.

        Args:
            noisy: (B, N, d_e) standardised noisy expressions at step ``t``.
            t: (B,) diffusion steps.
            around: Embedded conditions of the same frames.
            e_cond: (B, d_e) standardised emotion condition.
            dropped: (B,) bool, True where the learned vector replaces e_cond; requires ``droppable``.

        Returns:
            (B, N, d_e) standardised clean expressions.
        """
        return self.denoise(noisy, around, self.modulation(t, e_cond, dropped))

    def modulation(self, t: Tensor, e_cond: Tensor, dropped: Tensor | None = None) -> Modulation:
        """Embeds diffusion steps and emotion condition, which do not depend on the noisy sequence."""
        if dropped is not None:
            assert self.no_condition is not None, "built without droppable"
            e_cond = torch.where(dropped[:, None], self.no_condition.to(e_cond), e_cond)
        embedded = self.step(step_embedding(t, self.code.out_features).to(e_cond))
        tokens = None
        if self.condition_mode == "adaln":
            embedded = embedded + self.condition(e_cond)
        else:
            tokens = self.condition(e_cond)
        embedded = F.silu(embedded)
        factors = [cast(Block, block).modulate[1](embedded) for block in self.blocks]
        each = torch.stack(factors, 1).unflatten(-1, (6, 1, -1))
        return Modulation(each + each.new_tensor(UNSCALED)[:, None, None], tokens)

    def denoise(self, noisy: Tensor, around: Surroundings, modulation: Modulation) -> Tensor:
        """Predicts the clean sequence from embedded conditions; see ``forward``."""
        x = self.code(noisy) + around.identity[:, None]
        nearby = None
        if self.audio_mode == "add":
            x = x + around.audio
        else:
            nearby = neighbours(around.mask)
        factors = modulation.factors.flatten(1, 2).unbind(1)
        for number, block in enumerate(self.blocks):
            x = block(x, factors[6 * number : 6 * number + 6], around, modulation.tokens, nearby)
        return self.head(x)


class Block(nn.Module):
    """Modulated self-attention over time and feed-forward layer, with optional attention to audio and condition."""

    def __init__(self, width: int, head_width: int, attends_audio: bool, attends_condition: bool) -> None:
        super().__init__()
        self.heads = width // head_width
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.mlp = feed_forward(width)[1:]
        self.hear = Attention(width, head_width) if attends_audio else None
        self.attend_condition = Attention(width, head_width) if attends_condition else None
        modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(modulate.weight)  # every block starts as the identity
        nn.init.zeros_(modulate.bias)
        self.modulate = nn.Sequential(nn.SiLU(), modulate)

    def forward(
        self,
        x: Tensor,
        factors: Sequence[Tensor],
        around: Surroundings,
        tokens: Tensor | None,
        nearby: Tensor | None,
    ) -> Tensor:
        """(B, N, C) -> (B, N, C); ``factors`` as in ``Modulation``, ``nearby`` masks the audio attention."""
        shift1, scale1, gate1, shift2, scale2, gate2 = factors
        x = torch.addcmul(x, gate1, self._over_time(torch.addcmul(shift1, self.norm1(x), scale1), around))
        if self.hear is not None:
            x = x + self.hear(x, around.audio, nearby)
        if self.attend_condition is not None:
            x = x + self.attend_condition(x, tokens)
        return torch.addcmul(x, gate2, self.mlp(torch.addcmul(shift2, self.norm2(x), scale2)))

    def _over_time(self, x: Tensor, around: Surroundings) -> Tensor:
        projected = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotate(projected[:2], around.rotation)
        attended = F.scaled_dot_product_attention(query, key, projected[2], attn_mask=around.present)
        return self.to_out(attended.transpose(1, 2).flatten(2))


def step_embedding(t: Tensor, width: int) -> Tensor:
    """(B,) diffusion steps -> (B, width) float32 sinusoidal embedding."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def rotation(length: int, width: int, device: torch.device) -> Tensor:
    """(2, N, c) float32 cosines and signed sines of ``rotate`` for the positions 0 to N - 1."""
    frequency = 10_000 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * frequency
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)])


def rotate(x: Tensor, factors: Tensor) -> Tensor:
    """Applies rotary position embedding (Su et al. 2021) to (..., N, c) queries or keys; see ``rotation``."""
    cosine, sine = factors.to(x)
    return torch.addcmul(x * cosine, x.roll(x.shape[-1] // 2, -1), sine)


def neighbours(mask: Tensor, reach: int = 1) -> Tensor:
    """(B, 1, N, N) attention mask, True for the frame itself and unpadded frames up to ``reach`` away."""
    frames = torch.arange(mask.shape[1], device=mask.device)
    near = (frames[:, None] - frames).abs() <= reach
    # A padded frame attends to itself: the softmax of an empty row would be NaN.
    return ((near & mask[:, None, :]) | torch.eye(len(frames), dtype=torch.bool, device=mask.device))[:, None]
