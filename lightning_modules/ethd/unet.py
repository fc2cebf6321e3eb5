"""ETHD's U-Net: the spatio-temporal U-Net of Stable Video Diffusion with per-frame conditions and full checkpointing.

Built from diffusers' modules under the names of ``UNetSpatioTemporalConditionModel``, so that SVD's weights can be
loaded. The network predicts v from the noisy latents, concatenated with the reference latent, and 1/4 ln sigma.

Memory: with checkpointing, residual blocks and transformers are divided into segments. Each stores only its input and
is recomputed in the backward pass. A segment ends after a product or convolution where possible, because its last
operation is not recomputed. diffusers' checkpointing excludes the temporal transformer blocks, which takes four times
the memory at 120 frames.

Shapes: B clips, F frames, C channels, H = W latent side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_modules.ethd.conditioning import Conditions
from lightning_modules.ethd.transformer import Branches, Run, SpatioTemporalTransformer, blend

# SVD's micro-conditions: frames per second minus one, motion bucket id, noise augmentation strength.
ADDED_TIME_IDS = (24.0, 127.0, 0.02)
GRAPHS = 128  # at most, of a kind of segment: SVD has 15 shapes, with one length and any, in training and validation


@dataclass(frozen=True)
class UNetShape:
    """Widths and depths of the U-Net; the defaults are SVD's (1.52 billion parameters).

    Attributes:
        in_channels: Channels of the noisy and the reference latent together.
        out_channels: Channels of the latent.
        channels: Channels per level, multiples of 32.
        heads: Attention heads per level.
        attention: Whether each level has transformers; the middle block always has one.
        layers: Residual blocks per level of the encoder; the decoder has one more.
        token_width: Width D of the condition tokens.
        added_width: Width of each embedded micro-condition.
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
    """Spatio-temporal U-Net that predicts the velocity.

    Args:
        shape: Widths and depths.
        branches: Conditioning branches; None for all of them.
        checkpointing: Whether blocks are recomputed in the backward pass. Same result with a fraction of the memory and
            a third more time.
    """

    def __init__(self, shape: UNetShape, branches: Branches | None = None, checkpointing: bool = True) -> None:
        super().__init__()
        self.shape, self.branches, self.checkpointing = shape, branches or Branches(), checkpointing
        self._compiled: Callable[..., Any] | None = None
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
        """Sides of the levels' square grids for a latent of side ``side``, finest first.

        Raises:
            ValueError: If ``side`` is not divisible by 2 at every level.
        """
        deepest = 2 ** (len(self.shape.channels) - 1)
        if side % deepest:
            raise ValueError(f"latents of side {side}: expected a multiple of {deepest}, one halving per level")
        return [side >> level for level in range(len(self.shape.channels))]

    def forward(self, noisy: Tensor, reference: Tensor, noise_input: Tensor, conditions: Conditions) -> Tensor:
        """Predicts the velocity v = sqrt(a) noise - sqrt(1 - a) x0.

        Args:
            noisy: (B, F, C, H, W) noisy latents, scaled.
            reference: (B, C, H, W) latent of the portrait, see ``LatentScale.reference``.
            noise_input: (B,) 1/4 ln sigma of each clip's noise level; not the step index.
            conditions: Tokens and masks to attend to.

        Returns:
            (B, F, C, H, W) velocity.

        Raises:
            ValueError: If the latents are not square or their side is not divisible by 2 at every level.
        """
        if noisy.shape[-2] != noisy.shape[-1]:
            raise ValueError(f"expected square latents, got {noisy.shape[-2]} x {noisy.shape[-1]}")
        self.grid_sides(noisy.shape[-1])
        clips, frames = noisy.shape[:2]
        stacked = reference.to(noisy)[:, None].expand(-1, frames, -1, -1, -1)
        time = self._embed(noise_input, noisy).repeat_interleave(frames, 0, output_size=clips * frames)

        hidden = self.conv_in(torch.cat([noisy, stacked], 2).flatten(0, 1))
        skips = [hidden]
        for down in self.down_blocks:
            hidden = down(hidden, skips, time, conditions, frames, self._run)
        hidden = self.mid_block(hidden, time, conditions, frames, self._run)
        for up in self.up_blocks:
            hidden = up(hidden, skips, time, conditions, frames, self._run)
        return self._run(self._head, hidden).unflatten(0, (clips, frames))

    def _embed(self, noise_input: Tensor, like: Tensor) -> Tensor:
        """(B,) noise level -> (B, 4 C) embedding, with the micro-conditions added."""
        time = self.time_embedding(self.time_proj(noise_input).to(like.dtype))
        ids = self.add_time_proj(torch.tensor(ADDED_TIME_IDS, device=like.device)).flatten()
        return time + self.add_embedding(ids.to(like.dtype))

    def _head(self, hidden: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def compile_segments(self, backend: str = "inductor") -> None:
        """Compiles each segment when it is first run. The windows may have any lengths.

        Segments of one kind and one shape share a graph, in which only the first axis, the frames, varies. Raises the
        limit of graphs that torch has for a function, which is meant for functions that are called with few shapes.

        Args:
            backend: Compiler, see ``torch.compiler.list_backends``.
        """
        import torch._dynamo  # late: takes seconds

        torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
        self._compiled = partial(torch.compile, fullgraph=True, backend=backend)

    def _run(self, block: Callable[..., Tensor], *inputs: object) -> Tensor:
        if self._compiled is not None:
            block = self._compiled(block)
            # Otherwise the sides vary, too, once two levels have run, and Inductor cannot order such strides.
            for given in inputs:
                if isinstance(given, Tensor):
                    torch._dynamo.mark_static(given, list(range(1, given.ndim)))
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        # The blocks use no random numbers, so the generator state need not be saved.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


class DownLevel(nn.Module):
    """Encoder level: residual blocks, each followed by a transformer if the level has attention, then downsampling."""

    def __init__(self, shape: UNetShape, level: int, branches: Branches) -> None:
        super().__init__()
        width, before = shape.channels[level], shape.channels[max(level - 1, 0)]
        # As in SVD, the epsilon of residual blocks depends on whether the level has transformers.
        epsilon = 1e-6 if shape.attention[level] else 1e-5
        inputs = [before] + [width] * (shape.layers - 1)
        self.resnets = nn.ModuleList(VideoResidualBlock(size, width, shape, epsilon) for size in inputs)
        self.attentions = transformers(shape, level, shape.layers, branches)
        last = level == len(shape.channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(width, use_conv=True, name="op")])

    def forward(
        self, hidden: Tensor, skips: list[Tensor], time: Tensor, conditions: Conditions, frames: int, run: Run
    ) -> Tensor:
        """(B*F, C, H, W) -> half the height and width; appends the skip connections to ``skips``."""
        for index, resnet in enumerate(self.resnets):
            hidden = resnet(hidden, None, time, frames, run)
            if self.attentions:
                hidden = self.attentions[index](hidden, conditions, frames, run)
            skips.append(hidden)
        for downsample in self.downsamplers:
            hidden = downsample(hidden)
            skips.append(hidden)
        return hidden


class Middle(nn.Module):
    """Middle block: a transformer between two residual blocks."""

    def __init__(self, shape: UNetShape, branches: Branches) -> None:
        super().__init__()
        width, level = shape.channels[-1], len(shape.channels) - 1
        self.resnets = nn.ModuleList(VideoResidualBlock(width, width, shape, 1e-5) for _ in range(2))
        self.attentions = nn.ModuleList(
            [SpatioTemporalTransformer(width, shape.heads[level], shape.token_width, branches)]
        )

    def forward(self, hidden: Tensor, time: Tensor, conditions: Conditions, frames: int, run: Run) -> Tensor:
        """(B*F, C, H, W) -> the same shape."""
        hidden = self.resnets[0](hidden, None, time, frames, run)
        hidden = self.attentions[0](hidden, conditions, frames, run)
        return self.resnets[1](hidden, None, time, frames, run)


class UpLevel(nn.Module):
    """Decoder level: residual blocks over skip connections, each with a transformer if configured, then upsampling."""

    def __init__(self, shape: UNetShape, level: int, last: int, branches: Branches) -> None:
        super().__init__()
        levels = len(shape.channels)
        width = shape.channels[level]
        below = last if level == levels - 1 else shape.channels[level + 1]
        above = shape.channels[max(level - 1, 0)]
        carried = [below] + [width] * shape.layers
        joined = [width] * shape.layers + [above]
        self.resnets = nn.ModuleList(
            VideoResidualBlock(a + b, width, shape, 1e-6) for a, b in zip(carried, joined, strict=True)
        )
        self.attentions = transformers(shape, level, shape.layers + 1, branches)
        self.upsamplers = nn.ModuleList([Upsample2D(width, use_conv=True)] if level else [])

    def forward(
        self, hidden: Tensor, skips: list[Tensor], time: Tensor, conditions: Conditions, frames: int, run: Run
    ) -> Tensor:
        """(B*F, C, H, W) -> twice the height and width; removes its skip connections from the end of ``skips``."""
        for index, resnet in enumerate(self.resnets):
            hidden = resnet(hidden, skips.pop(), time, frames, run)
            if self.attentions:
                hidden = self.attentions[index](hidden, conditions, frames, run)
        for upsample in self.upsamplers:
            hidden = run(upsample, hidden)
        return hidden


class VideoResidualBlock(SpatioTemporalResBlock):
    """diffusers' residual block over space, then time, as two checkpointed segments."""

    def __init__(self, inputs: int, outputs: int, shape: UNetShape, epsilon: float) -> None:
        super().__init__(inputs, outputs, temb_channels=4 * shape.channels[0], eps=epsilon)
        self.temporal_res_block.conv1 = TemporalConv(outputs)
        self.temporal_res_block.conv2 = TemporalConv(outputs)

    def forward(  # type: ignore[override]
        self, hidden: Tensor, skip: Tensor | None, time: Tensor, frames: int, run: Run
    ) -> Tensor:
        """(B*F, C, H, W) hidden states, and those of a skip connection -> (B*F, C', H, W)."""
        spatial = run(self._over_space, hidden, skip, time)
        temporal = run(self._over_time, spatial, time, len(hidden) // frames)
        return blend(self.time_mixer, spatial, temporal)

    def _over_space(self, hidden: Tensor, skip: Tensor | None, time: Tensor) -> Tensor:
        if skip is not None:  # concatenated inside of the segment, which therefore does not store the concatenation
            hidden = torch.cat([hidden, skip], 1)
        return self.spatial_res_block(hidden, time)

    def _over_time(self, hidden: Tensor, time: Tensor, clips: int) -> Tensor:
        video = hidden.unflatten(0, (clips, -1)).transpose(1, 2)
        return self.temporal_res_block(video, time.unflatten(0, (clips, -1))).transpose(1, 2).flatten(0, 1)


class TemporalConv(nn.Conv3d):
    """3 x 1 x 1 convolution over frames, computed as a 2D convolution, which halves the time on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, F, H, W) -> the same shape."""
        flat = F.conv2d(video.flatten(3), self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return flat.unflatten(3, video.shape[3:])


def transformers(shape: UNetShape, level: int, count: int, branches: Branches) -> nn.ModuleList:
    """``count`` transformers of a level; empty if the level has no attention."""
    width, heads = shape.channels[level], shape.heads[level]
    return nn.ModuleList(
        SpatioTemporalTransformer(width, heads, shape.token_width, branches)
        for _ in range(count if shape.attention[level] else 0)
    )
