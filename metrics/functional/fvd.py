"""Sampling and preprocessing of FVD's clips, and the published protocols.

Shapes: N videos or clips, T frames per clip, H x W pixels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.networks.inception import as_unit_floats

I3D_SIZE = 224
MAX_CLIPS = 2048


@dataclass(frozen=True)
class FVDProtocol:
    """Protocol of a published FVD.

    Attributes:
        name: Name in the configuration.
        frames: Number of frames T per clip.
        subsample: Step between the frames of a clip.
        resize: ``squash`` (bilinear to 224 x 224, StyleGAN-V), ``bicubic`` (antialiased to 224 x 224, DisCo) or
            ``short_side`` (short side to 224, then centre crop, VideoGPT).
        eps: Epsilon of the I3D's batch norms.
        convention: Convention of the Fréchet distance.
        unit_range: Input range [0, 1] instead of [-1, 1], a mistake of LatentSync.
        truncate: Truncates frames from [0, 1] floats to uint8 first, as VideoGPT's script does.
        source: Repository and metric.
    """

    name: str
    frames: int = 16
    subsample: int = 1
    resize: Literal["squash", "short_side", "bicubic"] = "squash"
    eps: float = 1e-3
    convention: str = "stylegan-v"
    unit_range: bool = False
    truncate: bool = False
    source: str = "github.com/universome/stylegan-v, metric fvd2048_16f"

    @property
    def span(self) -> int:
        """Minimum number of frames of a video."""
        return self.frames * self.subsample


_PROTOCOLS = (
    FVDProtocol("stylegan-v"),
    FVDProtocol("stylegan-v-128f", frames=128, source="StyleGAN-V, metric fvd2048_128f"),
    FVDProtocol("stylegan-v-128f-subsample8", subsample=8, source="StyleGAN-V, metric fvd2048_128f_subsample8f"),
    FVDProtocol("fvd-comparison", convention="pytorch-fid", source="github.com/universome/fvd-comparison, our_fvd.py"),
    FVDProtocol(
        "videogpt", resize="short_side", eps=1e-5, convention="tfgan", truncate=True,
        source="github.com/wilson1yan/VideoGPT and TATS; their float32 SVD is replaced by float64",
    ),
    FVDProtocol(
        "latentsync", convention="pytorch-fid", unit_range=True,
        source="github.com/bytedance/LatentSync eval/fvd.py, which leaves frames in [0, 1]",
    ),
    FVDProtocol(
        "disco", resize="bicubic", convention="pytorch-fid",
        source="github.com/Wangt-CN/DisCo, also Hallo2's and StableAvatar's; antialiased bicubic resize",
    ),
)  # fmt: skip
PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
PROTOCOLS |= {"fvd2048_16f": PROTOCOLS["stylegan-v"], "fvd2048_128f": PROTOCOLS["stylegan-v-128f"]}
PROTOCOLS |= {"fvd2048_128f_subsample8f": PROTOCOLS["stylegan-v-128f-subsample8"]}


def protocol_named(name: str) -> FVDProtocol:
    """Returns the published protocol with this name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown FVD protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class FvdClip:
    """The frames of one video that FVD uses.

    Attributes:
        video: Index in the sorted list of videos.
        frames: T frame indices.
    """

    video: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Sampling:
    """The clips of one side, and the videos that are too short.

    Attributes:
        clips: One clip per video that is long enough, in order, at most 2048.
        too_short: Indices of the videos that are shorter than the protocol's span.
        seed: Seed of the random starts, or None if every clip starts at frame 0.
    """

    clips: tuple[FvdClip, ...]
    too_short: tuple[int, ...]
    seed: int | None


def sample_clips(
    lengths: Sequence[int], protocol: FVDProtocol, real: bool, seed: int = 0, names: Sequence[str] | None = None
) -> Sampling:
    """Samples one clip per video, like StyleGAN-V's dataset.

    Generated clips start at frame 0. Real clips start at ``randint(0, L - T s + s - 1)`` of Python's generator. The
    original does not seed the generator, so its value varies between runs; here it is seeded. Without ``names`` it is
    seeded once and the starts are drawn in the order of the videos, as in the original: a missing video moves all later
    starts. With ``names`` it is seeded for each video, whose start then depends on seed, name and L alone.

    Args:
        lengths: Number of frames L of each video, videos in sorted order.
        protocol: FVD protocol with T frames and step s.
        real: Whether the videos are real (reference) or generated.
        seed: Seed of the random starts of the real side.
        names: Name of each video.

    Raises:
        ValueError: If fewer than two videos are long enough.
    """
    draw = random.Random(seed)
    clips: list[FvdClip] = []
    too_short: list[int] = []
    for video, length in enumerate(lengths):
        if length < protocol.span:
            too_short.append(video)
        elif len(clips) < MAX_CLIPS:
            start = 0
            if real and names:
                start = real_start(names[video], length, protocol, seed)
            elif real:
                start = _draw_start(draw, length, protocol)
            clips.append(
                FvdClip(video, tuple(range(start, start + protocol.span, protocol.subsample))[: protocol.frames])
            )
    if len(clips) < 2:
        raise ValueError(
            f"FVD needs at least two videos of {protocol.span} frames ({protocol.name}), found {len(clips)} of "
            f"{len(lengths)}"
        )
    return Sampling(tuple(clips), tuple(too_short), seed if real else None)


def real_start(name: str, length: int, protocol: FVDProtocol, seed: int = 0) -> int:
    """Draws the first frame of a real clip from the seed, the name and the length of its video alone.

    Args:
        name: Name of the video.
        length: Number of frames of the video, at least the protocol's span.
        protocol: FVD protocol.
        seed: Seed of the random starts.
    """
    return _draw_start(random.Random(f"{seed} {name}"), length, protocol)


def _draw_start(draw: random.Random, length: int, protocol: FVDProtocol) -> int:
    return draw.randint(0, length - protocol.span + protocol.subsample - 1)


def preprocess(clips: Tensor, protocol: FVDProtocol) -> Tensor:
    """Converts clips to the input of the I3D.

    Args:
        clips: (N, T, 3, H, W) RGB, uint8 or float in [0, 1].
        protocol: FVD protocol with resize and range.

    Returns:
        (N, 3, T, 224, 224) float32 in [-1, 1], or [0, 1] with ``unit_range``.

    Raises:
        ValueError: If the clips have another shape or number of frames.
    """
    if clips.ndim != 5 or clips.shape[1] != protocol.frames:
        raise ValueError(
            f"FVD {protocol.name}: expected clips (N, {protocol.frames}, 3, H, W), found {tuple(clips.shape)}"
        )
    n, t = clips.shape[:2]
    # One frame at a time, whose floats fit in a processor's cache.
    frames = torch.cat([_prepared(frame, protocol) for frame in clips.flatten(0, 1).split(1)])
    return frames.unflatten(0, (n, t)).transpose(1, 2).contiguous()


def _prepared(frame: Tensor, protocol: FVDProtocol) -> Tensor:
    """Scales and resizes (1, 3, H, W)."""
    frame = as_unit_floats(frame)
    if protocol.truncate:
        frame = (frame * 255).to(torch.uint8).float() / 255
    frame = _RESIZE[protocol.resize](frame)
    return frame if protocol.unit_range else 2 * frame - 1


def _squash(frames: Tensor) -> Tensor:
    return F.interpolate(frames, size=(I3D_SIZE, I3D_SIZE), mode="bilinear", align_corners=False)


def _bicubic(frames: Tensor) -> Tensor:
    return F.interpolate(frames, size=(I3D_SIZE, I3D_SIZE), mode="bicubic", align_corners=False, antialias=True)


def _short_side(frames: Tensor) -> Tensor:
    h, w = frames.shape[-2:]
    scale = I3D_SIZE / min(h, w)
    size = (I3D_SIZE, math.ceil(w * scale)) if h < w else (math.ceil(h * scale), I3D_SIZE)
    frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - I3D_SIZE) // 2, (size[1] - I3D_SIZE) // 2
    return frames[..., top : top + I3D_SIZE, left : left + I3D_SIZE]


_RESIZE = {"squash": _squash, "short_side": _short_side, "bicubic": _bicubic}
