"""Features of FID, FVD and E-FID for one side of one clip.

Shapes: N samples, D features, F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import EFIDConfig, FIDConfig, FVDConfig
from encoders.landmarks.sidecar import LandmarkFileError
from encoders.weights import locate
from evaluation.aligned_clips import AlignedClip, Clips, Side
from evaluation.cache import Arrays
from evaluation.landmarks import landmarks_for
from evaluation.networks import LoadedNetwork, Source, load, load_proxy
from evaluation.results import Column
from metrics.functional.efid import align_face, ddfa_crop, ddfa_roi
from metrics.functional.fvd import MAX_CLIPS, protocol_named, real_start
from metrics.functional.fvd import preprocess as preprocess_clip
from metrics.networks.deep3d import Deep3DFace
from metrics.networks.i3d import I3D
from metrics.networks.inception import InceptionFeatures
from metrics.networks.proxy import ProxyExpression, ProxyImage, ProxyVideo
from metrics.networks.three_ddfa import ThreeDDFA
from runtime.errors import UserError

STARTS = "real pieces by seed, name of the clip and length of the reference video"


class UnusableVideo(UserError):
    """Raised if a metric cannot be computed for a video; the message has the reason."""


class Extractor(Protocol):
    """Extractor of the features of one metric.

    Attributes:
        name: Name of the metric in the configuration.
        columns: Table column of the value, a single one.
        title: Printed name; the official name only for the official network.
        unit: Unit of a sample: frames or clips.
        dimensions: Number of features D.
        convention: Convention of the Fréchet distance.
        sources: Networks, the feature network first.
        protocol: All settings that the value depends on.
    """

    name: str
    columns: tuple[Column, ...]
    title: str
    unit: str
    dimensions: int
    convention: str
    sources: tuple[Source, ...]
    protocol: dict[str, object]

    def plan(self, clips: Clips) -> list[str | None]:
        """Checks all clips before the first is read; returns None for a usable clip, otherwise the reason."""
        ...

    def key(self, side: Side) -> dict[str, object]:
        """Returns everything that the features of a side depend on, except its frames."""
        ...

    def extract(self, side: Side) -> Arrays:
        """Extracts the features of a side.

        Returns:
            ``features``, (N, D) float32, and ``seen``, the number of frames that were read.

        Raises:
            UnusableVideo: If the video has no features.
            MediaError: If the video cannot be read.
        """
        ...


class FIDFeatures:
    """``Extractor`` of FID: Inception's pool3 features of every frame."""

    name = "fid"
    columns: tuple[Column, ...] = (Column("fid", "FID", "lower", low=0.0),)
    unit = "frames"
    convention = "pytorch-fid"

    def __init__(self, config: FIDConfig, device: torch.device) -> None:
        loaded: LoadedNetwork[InceptionFeatures] | LoadedNetwork[ProxyImage]
        if config.network == "proxy":
            loaded = load_proxy("fid", "image", config.weights, device, ProxyImage)
        else:
            loaded = load("inception_fid", config.weights, "InceptionV3 (pytorch-fid)", InceptionFeatures, device)
        self.network, self.device = loaded.network, device
        self.sources: tuple[Source, ...] = (loaded.source,)
        self.title = title_of("FID", config.network, loaded.source)
        self.dimensions = self.network.dimensions
        self.batch_size = config.batch_size
        self.protocol: dict[str, object] = {
            "name": "pytorch-fid 0.3.0" if config.network == "inception" else "as pytorch-fid, with another network",
            "frames": "all frames of all clips, pooled",
            "resize": f"bilinear {self.network.input_size} pixels, no antialiasing, inside the network",
            "covariance": "N - 1",
        }

    def plan(self, clips: Clips) -> list[str | None]:
        """Accepts every clip."""
        return [None] * len(clips)

    def key(self, side: Side) -> dict[str, object]:
        """Returns the network's hash and dimensions."""
        return {"network": self.sources[0].sha256, "dimensions": self.dimensions}

    def extract(self, side: Side) -> Arrays:
        """Extracts (F, D) float32; see ``Extractor``."""
        features = [self.network(images).cpu().numpy() for images in _images(side.reader(), self.batch_size)]
        return {"features": np.concatenate(features), "seen": np.asarray(side.frames)}


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
        else:
            loaded = load(registered, config.weights, "I3D", lambda file: I3D(file, eps=self.flavour.eps), device)
        self.network, self.device = loaded.network, device
        self.dimensions = self.network.dimensions
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

    def extract(self, side: Side) -> Arrays:
        """Extracts (1, D) float32 of a side that is reduced to the piece; see ``Extractor``."""
        frames = np.stack(list(side.reader()))[:: self.flavour.subsample][: self.flavour.frames]
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
        logits = self.network(preprocess_clip(clip.to(self.device), self.flavour))
        return {"features": logits.cpu().numpy(), "seen": np.asarray(len(frames))}


class EFIDFeatures:
    """``Extractor`` of E-FID: expression coefficients of every frame with a face."""

    name = "efid"
    columns: tuple[Column, ...] = (Column("efid", "E-FID", "lower", low=0.0),)
    unit = "frames"
    convention = "pytorch-fid"

    def __init__(self, config: EFIDConfig, device: torch.device) -> None:
        loaded: LoadedNetwork[Deep3DFace] | LoadedNetwork[ThreeDDFA] | LoadedNetwork[ProxyExpression]
        if config.network == "deep3d":
            loaded = load("deep3dfacerecon", config.weights, "Deep3DFaceRecon ResNet50", Deep3DFace, device)
        elif config.network == "proxy":
            loaded = load_proxy("efid", "expression", config.weights, device, ProxyExpression)
        else:
            loaded = load(
                "3ddfa_v2",
                config.weights,
                "3DDFA_V2 MobileNet 0.5",
                lambda file: ThreeDDFA(file, locate("3ddfa_v2_statistics")),
                device,
                proxy=True,
            )
        self.landmarks = landmarks_for(config, device)
        self.network, self.device = loaded.network, device
        source = loaded.source
        if source.official and config.landmarks == "sidecar":
            source = replace(source, official=False, note="the official network, but on landmarks from files")
        self.sources = (source, *self.landmarks.sources)
        self.dimensions = self.network.dimensions
        self.title = (
            "E-FID proxy (3DDFA_V2)" if config.network == "3ddfa" else title_of("E-FID", config.network, source)
        )
        self.batch_size = config.batch_size
        self.protocol: dict[str, object] = {
            "name": "Fréchet distance of pooled expression coefficients",
            "network": config.network,
            "coefficients": self.dimensions,
            "landmarks": self.landmarks.name,
            "frames": "every frame with a face, all clips pooled",
            "covariance": "N - 1",
        }

    def plan(self, clips: Clips) -> list[str | None]:
        """Accepts every clip."""
        return [None] * len(clips)

    def key(self, side: Side) -> dict[str, object]:
        """Returns the networks' hashes and the landmarks."""
        return {
            "networks": [source.sha256 for source in self.sources],
            "landmarks": self.landmarks.name,
            **self.landmarks.key(side.path),
        }

    def extract(self, side: Side) -> Arrays:
        """Extracts (N, D) float32 of the N frames with a face; see ``Extractor``."""
        reader = side.reader()
        try:
            points = self.landmarks.follow(reader, side.path, side.start / side.fps)
        except LandmarkFileError as error:
            raise UnusableVideo(str(error)) from error
        if not any(face is not None for face in points):
            raise UnusableVideo(f"no face was found in any of {len(points)} frames ({self.landmarks.name})")
        features = [
            self.network(faces).cpu().numpy() for faces in _images(self._crops(reader, points), self.batch_size)
        ]
        kept = [place for place, face in enumerate(points) if face is not None]
        return {"features": np.concatenate(features), "seen": np.asarray(len(points)), "frames": np.asarray(kept)}

    def _crops(self, frames: Iterable[np.ndarray], points: Sequence[np.ndarray | None]) -> Iterator[np.ndarray]:
        size = self.network.input_size
        align: Callable[[np.ndarray, np.ndarray], np.ndarray] = (
            (lambda frame, face: align_face(frame, face).image)
            if isinstance(self.network, Deep3DFace)
            else (lambda frame, face: ddfa_crop(frame, ddfa_roi(face), size))
        )
        return (align(frame, face) for frame, face in zip(frames, points, strict=True) if face is not None)


def title_of(metric: str, network: str, source: Source) -> str:
    """Returns the printed name of a value: the official name only for the official network."""
    if network == "proxy":
        return f"{metric} proxy (small trained network)"
    return metric if source.official else f"{metric} proxy (unofficial weights)"


def _images(frames: Iterable[np.ndarray], batch_size: int) -> Iterator[Tensor]:
    """Yields (B, 3, H, W) uint8 batches of (H, W, 3) frames."""
    rest = iter(frames)
    while batch := list(islice(rest, batch_size)):
        yield torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
