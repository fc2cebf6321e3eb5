"""Features of FVD: the I3D's logits of one piece of every clip.

Shapes: D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from configs.evaluation import FVDConfig
from evaluation.aligned_clips import AlignedClip, Clips, Side
from evaluation.cache import Arrays
from evaluation.extractor import title_of
from evaluation.networks import LoadedNetwork, Source, load, load_proxy
from evaluation.one_pass import Collector
from evaluation.results import Column
from metrics.functional.fvd import MAX_CLIPS, preprocess, protocol_named, real_start
from metrics.networks.i3d import I3D
from metrics.networks.proxy import ProxyVideo

STARTS = "real pieces by seed, name of the clip and length of the reference video"


class FVDFeatures:
    """``Extractor`` of FVD: the I3D's logits of one piece of every clip.

    A generated piece starts at the first compared frame. A real piece starts at a random frame of the whole reference
    video, drawn from seed, name of the clip and length of that video, so all systems meet the same real pieces.
    """

    name = "fvd"
    columns: tuple[Column, ...] = (Column("fvd", "FVD", "lower", low=0.0),)
    unit = "clips"

    def __init__(self, config: FVDConfig, device: torch.device) -> None:
        self.flavour = protocol_named(config.protocol)
        self.convention = self.flavour.convention
        registered = "i3d_videogpt" if self.flavour.name == "videogpt" else "i3d_stylegan_v"
        loaded: LoadedNetwork[I3D] | LoadedNetwork[ProxyVideo]
        if config.network == "proxy":
            loaded = load_proxy("fvd", "video", config.weights, device, ProxyVideo)
            self.dimensions = loaded.network.dimensions
        else:
            loaded = load(registered, config.weights, "I3D", lambda file: I3D(file, eps=self.flavour.eps), device)
            self.dimensions = I3D.dimensions
        self.loaded, self.device = loaded, device
        self.sources: tuple[Source, ...] = (loaded.source,)
        self.title = title_of("FVD", config.network, loaded.source)
        self.seed = config.seed
        self.starts: dict[str, int] = {}  # name of a clip -> first frame of its real piece, from the video's start
        self.protocol: dict[str, object] = {**vars(self.flavour), "seed": config.seed, "starts": STARTS}

    def plan(self, clips: Clips) -> list[str | None]:
        """Samples the real pieces; rejects clips that are too short."""
        span = self.flavour.span
        short = [min(clip.reference.available[1], clip.generated.frames) < span for clip in clips]
        lengths = [clip.reference.available[1] for clip in clips]
        names = [clip.name for clip in clips]
        long = [place for place, cut in enumerate(short) if not cut][:MAX_CLIPS]
        chosen = {place: real_start(names[place], lengths[place], self.flavour, self.seed) for place in long}
        self.starts = {names[video]: clips[video].reference.available[0] + first for video, first in chosen.items()}
        return [
            None
            if place in chosen
            else f"has {clips[place].generated.frames} frames, fvd.protocol={self.flavour.name} needs {span}"
            if short[place]
            else "not used: the protocol uses the first 2048 videos"
            for place in range(len(clips))
        ]

    def first_frames(self, clip: AlignedClip) -> dict[str, int]:
        """Returns the first frame of each side's piece, counted from the start of the video."""
        return {"reference": self.starts[clip.name], "generated": clip.generated.start}

    def piece(self, clip: AlignedClip, side: Side) -> Side:
        """Returns the side reduced to its piece."""
        start = self.first_frames(clip)[side.name]
        return side.part(start - side.start, self.length)

    @property
    def length(self) -> int:
        """Number of frames from the first to the last one of a piece."""
        return (self.flavour.frames - 1) * self.flavour.subsample + 1

    def key(self, side: Side) -> dict[str, object]:
        """Returns the network's hash and the protocol; the frames are part of the side's own key."""
        return {"network": self.sources[0].sha256, "flavour": {**vars(self.flavour), "source": ""}}

    def collector(self, side: Side) -> Collector:
        """Returns the collector of the (1, D) logits of a side that is reduced to its piece."""
        return _PieceLogits(self, side)


class _PieceLogits:
    """``Collector`` of FVD's logits of one piece."""

    def __init__(self, extractor: FVDFeatures, side: Side) -> None:
        self.key = {"what": "fvd", "side": side.key, **extractor.key(side)}
        self.first, self.count = side.start, side.frames
        self._extractor = extractor
        self._frames: list[np.ndarray] = []

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Keeps the frames; see ``Collector``."""
        self._frames += frames

    def arrays(self) -> Arrays:
        """Computes the logits; see ``Collector``."""
        flavour = self._extractor.flavour
        frames = np.stack(self._frames)[:: flavour.subsample][: flavour.frames]
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].to(self._extractor.device)
        logits = self._extractor.loaded(preprocess(clip, flavour)).cpu().numpy()
        place = np.asarray([self.first], np.int32)
        return {"features": logits, "frames": place, "seen": np.asarray(len(frames))}
