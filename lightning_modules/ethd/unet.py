"""ETHD's spatio-temporal U-Net: Stable Video Diffusion's, with per-frame conditions and whole-block checkpointing.

Made of diffusers' parts under diffusers' names (``UNetSpatioTemporalConditionModel``), so that SVD's weights load. The
network predicts v from the noisy latents, the reference latent beside them, and 1/4 ln sigma.

Memory: every residual block and every transformer keeps its input alone and is computed again in the backward pass.
diffusers' switch leaves the temporal half of each transformer out, which at 120 frames costs four times the memory.

Shapes: B clips, F frames, C channels, H = W latent side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_modules.ethd.conditioning import Conditions
from lightning_modules.ethd.transformer import Branches, SpatioTemporalTransformer

# SVD's micro-conditions: frames per second less one, motion bucket, noise added to the reference.
ADDED_TIME_IDS = (24.0, 127.0, 0.02)
Run = Callable[..., Tensor]


@dataclass(frozen=True)
class UNetShape:
    """Widths and depths; the defaults are SVD's (1.52 billion parameters).

    Attributes:
        in_channels: of the noisy latent and the reference latent together.
        out_channels: of the latent.
        channels: of every level, multiples of 32.
        heads: of the attentions of every level.
        attention: which levels have transformers; the middle always has one.
        layers: residual blocks of every level on the way down; one more on the way up.
        token_width: D of the condition tokens.
        added_width: of each embedded micro-condition.
    """

    in_channels: int = 8
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers: int = 2
    token_width: int = 1024
    added_width: int = 256

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.heads) == len(self.attention):
            raise ValueError(
                f"channels, heads and attention name {len(self.channels)}, {len(self.heads)} and "
                f"{len(self.attention)} levels; expected one entry each per level"
            )
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % 32 or channels % heads:
                raise ValueError(f"{channels} channels: expected a multiple of 32 and of its level's {heads} heads")


class UNet(nn.Module):
    """The v-network.

    Args:
        shape: widths and depths.
        branches: which of ETHD's attentions there are.
        checkpointing: recompute blocks in the backward pass; same result, a fraction of the memory, a third more time.
    """

    def __init__(self, shape: UNetShape, branches: Branches | None = None, checkpointing: bool = True) -> None:
        super().__init__()
        self.shape, self.branches, self.checkpointing = shape, branches or Branches(), checkpointing
        first, last, embedded = shape.channels[0], shape.channels[-1], 4 * shape.channels[0]
        self.conv_in = nn.Conv2d(shape.in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, True, 0)
        self.time_embedding = TimestepEmbedding(first, embedded)
        self.add_time_proj = Timesteps(shape.added_width, True, 0)
        self.add_embedding = TimestepEmbedding(len(ADDED_TIME_IDS) * shape.added_width, embedded)
        self.down_blocks = nn.ModuleList(DownLevel(shape, level, self.branches) for level in range(len(shape.channels)))
        self.mid_block = Middle(shape, self.branches)
        upwards = reversed(range(len(shape.channels)))
        self.up_blocks = nn.ModuleList(UpLevel(shape, level, last, self.branches) for level in upwards)
        self.conv_norm_out = nn.GroupNorm(32, first, eps=1e-5)
        self.conv_out = nn.Conv2d(first, shape.out_channels, 3, padding=1)

    def grid_sides(self, side: int) -> list[int]:
        """Sides of the levels' grids for a latent of ``side``, finest first.

        Raises:
            ValueError: unless every level halves evenly.
        """
        deepest = 2 ** (len(self.shape.channels) - 1)
        if side % deepest:
            raise ValueError(f"latents of side {side}: expected a multiple of {deepest}, one halving per level")
        return [side >> level for level in range(len(self.shape.channels))]

    def forward(self, noisy: Tensor, reference: Tensor, noise_input: Tensor, conditions: Conditions) -> Tensor:
        """The velocity v = sqrt(a) noise - sqrt(1 - a) x0.

        Args:
            noisy: (B, F, C, H, W) noisy latents, scaled.
            reference: (B, C, H, W) latent of the portrait, unscaled as SVD was trained.
            noise_input: (B,) 1/4 ln sigma of each clip's noise, never the step's number.
            conditions: what the blocks attend to.

        Returns:
            (B, F, C, H, W).

        Raises:
            ValueError: if the latents are not square or do not halve evenly.
        """
        if noisy.shape[-2] != noisy.shape[-1]:
            raise ValueError(f"latents are square, got {noisy.shape[-2]} x {noisy.shape[-1]}")
        self.grid_sides(noisy.shape[-1])
        clips, frames = noisy.shape[:2]
        stacked = reference.to(noisy)[:, None].expand(-1, frames, -1, -1, -1)
        time = self._embed(noise_input, noisy).repeat_interleave(frames, 0, output_size=clips * frames)
        video = noisy.new_zeros(clips, frames)

        hidden = self.conv_in(torch.cat([noisy, stacked], 2).flatten(0, 1))
        skips = [hidden]
        for down in self.down_blocks:
            hidden = down(hidden, skips, time, conditions, video, self._run)
        hidden = self.mid_block(hidden, time, conditions, video, self._run)
        for up in self.up_blocks:
            hidden = up(hidden, skips, time, conditions, video, self._run)
        return self._run(self._head, hidden).unflatten(0, (clips, frames))

    def _embed(self, noise_input: Tensor, like: Tensor) -> Tensor:
        """(B,) -> (B, 4 C)."""
        time = self.time_embedding(self.time_proj(noise_input).to(like.dtype))
        ids = self.add_time_proj(torch.tensor(ADDED_TIME_IDS, device=like.device)).flatten()
        return time + self.add_embedding(ids.to(like.dtype))

    def _head(self, hidden: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def _run(self, block: Callable[..., Tensor], *inputs: object) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        # Nothing in the blocks is random, so there is no generator state to keep.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


class DownLevel(nn.Module):
    """Residual blocks, each with its transformer, then half the size."""

    def __init__(self, shape: UNetShape, level: int, branches: Branches) -> None:
        super().__init__()
        width, before = shape.channels[level], shape.channels[max(level - 1, 0)]
        # SVD's residual blocks differ in this constant with and without a transformer beside them.
        epsilon = 1e-6 if shape.attention[level] else 1e-5
        inputs = [before] + [width] * (shape.layers - 1)
        self.resnets = nn.ModuleList(residual(size, width, shape, epsilon) for size in inputs)
        self.attentions = transformers(shape, level, shape.layers, branches)
        last = level == len(shape.channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(width, use_conv=True, name="op")])

    def forward(
        self, hidden: Tensor, skips: list[Tensor], time: Tensor, conditions: Conditions, video: Tensor, run: Run
    ) -> Tensor:
        """(B*F, C, H, W) -> half the size; what the way up needs is added to ``skips``."""
        for index, resnet in enumerate(self.resnets):
            hidden = run(resnet, hidden, time, video)
            if self.attentions:
                hidden = run(self.attentions[index], hidden, conditions, video)
            skips.append(hidden)
        for downsample in self.downsamplers:
            hidden = downsample(hidden)
            skips.append(hidden)
        return hidden


class Middle(nn.Module):
    """A transformer between two residual blocks."""

    def __init__(self, shape: UNetShape, branches: Branches) -> None:
        super().__init__()
        width, level = shape.channels[-1], len(shape.channels) - 1
        self.resnets = nn.ModuleList(residual(width, width, shape, 1e-5) for _ in range(2))
        self.attentions = nn.ModuleList(
            [SpatioTemporalTransformer(width, shape.heads[level], shape.token_width, branches)]
        )

    def forward(self, hidden: Tensor, time: Tensor, conditions: Conditions, video: Tensor, run: Run) -> Tensor:
        """(B*F, C, H, W) -> the same."""
        hidden = run(self.resnets[0], hidden, time, video)
        hidden = run(self.attentions[0], hidden, conditions, video)
        return run(self.resnets[1], hidden, time, video)


class UpLevel(nn.Module):
    """Residual blocks that take the way down's results in, each with its transformer, then twice the size."""

    def __init__(self, shape: UNetShape, level: int, last: int, branches: Branches) -> None:
        super().__init__()
        levels = len(shape.channels)
        width = shape.channels[level]
        below = last if level == levels - 1 else shape.channels[level + 1]
        above = shape.channels[max(level - 1, 0)]
        carried = [below] + [width] * shape.layers
        joined = [width] * shape.layers + [above]
        self.resnets = nn.ModuleList(residual(a + b, width, shape, 1e-6) for a, b in zip(carried, joined, strict=True))
        self.attentions = transformers(shape, level, shape.layers + 1, branches)
        self.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True)] if level else [])

    def forward(
        self, hidden: Tensor, skips: list[Tensor], time: Tensor, conditions: Conditions, video: Tensor, run: Run
    ) -> Tensor:
        """(B*F, C, H, W) -> twice the size; takes its share off the end of ``skips``."""
        for index, resnet in enumerate(self.resnets):
            hidden = run(join, resnet, hidden, skips.pop(), time, video)
            if self.attentions:
                hidden = run(self.attentions[index], hidden, conditions, video)
        for upsample in self.upsamplers:
            hidden = run(upsample, hidden)
        return hidden


def join(resnet: nn.Module, hidden: Tensor, skip: Tensor, time: Tensor, video: Tensor) -> Tensor:
    """A residual block over two inputs. Joined inside the checkpoint, the copy of both is not kept."""
    return resnet(torch.cat([hidden, skip], 1), time, video)


def residual(inputs: int, outputs: int, shape: UNetShape, epsilon: float) -> SpatioTemporalResBlock:
    """Diffusers' residual block over space, then time."""
    block = SpatioTemporalResBlock(inputs, outputs, temb_channels=4 * shape.channels[0], eps=epsilon)
    block.temporal_res_block.conv1 = TemporalConv(outputs)
    block.temporal_res_block.conv2 = TemporalConv(outputs)
    return block


class TemporalConv(nn.Conv3d):
    """Diffusers' 3 x 1 x 1 convolution over frames, computed in two dimensions: half the time on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, F, H, W) -> the same."""
        flat = F.conv2d(video.flatten(3), self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return flat.unflatten(3, video.shape[3:])


def transformers(shape: UNetShape, level: int, count: int, branches: Branches) -> nn.ModuleList:
    """``count`` transformers of a level, or none where it has no attention."""
    width, heads = shape.channels[level], shape.heads[level]
    return nn.ModuleList(
        SpatioTemporalTransformer(width, heads, shape.token_width, branches)
        for _ in range(count if shape.attention[level] else 0)
    )
