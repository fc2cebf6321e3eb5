"""Features of FID, FVD and E-FID for one side of one clip.

Shapes: N samples, D features, F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import EFIDConfig, FIDConfig, FVDConfig
from encoders.weights import locate
from evaluation.aligned_clips import AlignedClip, Clips, Side
from evaluation.cache import Arrays
from evaluation.landmarks import LandmarkStream, landmarks_for
from evaluation.networks import LoadedNetwork, Source, load, load_proxy
from evaluation.one_pass import Collector
from evaluation.results import Column
from metrics.functional.efid import align_face, ddfa_crop, ddfa_roi
from metrics.functional.fvd import MAX_CLIPS, protocol_named, real_start
from metrics.functional.fvd import preprocess as preprocess_clip
from metrics.networks.deep3d import EXPRESSION, Deep3DFace
from metrics.networks.i3d import I3D
from metrics.networks.inception import InceptionFeatures
from metrics.networks.proxy import ProxyExpression, ProxyImage, ProxyVideo
from metrics.networks.three_ddfa import ThreeDDFA
from runtime.errors import UserError

STARTS = "real pieces by seed, name of the clip and length of the reference video"


class UnusableVideo(UserError):
    """Raised if a metric cannot be computed for a video; the message has the reason."""


class Extractor(Protocol):
    """Extractor of the features of one metric; it is also ``Extracting`` or ``Collecting``.

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


class Extracting(Extractor, Protocol):
    """Extractor that reads a video itself."""

    def extract(self, side: Side) -> Arrays:
        """Extracts the features of a side.

        Returns:
            ``features``, (N, D) float32, and ``seen``, the number of frames that were read.

        Raises:
            UnusableVideo: If the video has no features.
            MediaError: If the video cannot be read.
        """
        ...


class Collecting(Extractor, Protocol):
    """Extractor whose features come from the single decoding of a video that all metrics share."""

    def collector(self, side: Side) -> Collector:
        """Returns the collector of the features of a side."""
        ...


def is_collecting(extractor: Extractor) -> TypeGuard[Collecting]:
    """Whether an extractor is ``Collecting``; otherwise it is ``Extracting``."""
    return hasattr(extractor, "collector")


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

    def collector(self, side: Side) -> Collector:
        """Returns the collector of (F, D) features of all frames of the video."""
        return NetworkFrames(self.network, side, {"what": "fid", **self.key(side)}, self.batch_size)


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
        logits = self._extractor.network(preprocess_clip(clip, flavour)).cpu().numpy()
        place = np.asarray([self.first], np.int32)
        return {"features": logits, "frames": place, "seen": np.asarray(len(frames))}


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
        # All of Deep3DFaceRecon's coefficients are stored, for other metrics; E-FID uses a range of them.
        self.used = (EXPRESSION.start, EXPRESSION.stop) if config.network == "deep3d" else None
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

    def collector(self, side: Side) -> Collector:
        """Returns the collector of the (N, D) coefficients of the N frames with a face."""
        return _FaceCoefficients(self, side)

    def crop(self, frame: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Returns the network's (S, S, 3) input of a face."""
        if isinstance(self.network, Deep3DFace):
            return align_face(frame, face).image
        return ddfa_crop(frame, ddfa_roi(face), self.network.input_size)

    def compute(self, faces: Tensor) -> np.ndarray:
        """Computes all coefficients of (B, 3, S, S) faces."""
        network = self.network
        values = network.coefficients(faces) if isinstance(network, Deep3DFace) else network(faces)
        return values.cpu().numpy()


class NetworkFrames:
    """``Collector`` of one feature vector per frame, of the whole video.

    Args:
        network: Function from (B, 3, H, W) uint8 to (B, D).
        side: Side with the video.
        key: Everything that the features depend on, except the video.
        batch_size: Frames per call of the network.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], side: Side, key: dict[str, object], batch_size: int
    ) -> None:
        self.key = {"video": side.video, **key}
        self.first, self.count = 0, side.info.frames
        self._network, self._batch_size = network, batch_size
        self._waiting: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Computes features of full batches; see ``Collector``."""
        self._waiting += frames
        while len(self._waiting) >= self._batch_size:
            self._compute()

    def arrays(self) -> Arrays:
        """Computes the features of the rest; see ``Collector``."""
        while self._waiting:
            self._compute()
        features = np.concatenate(self._features)
        frames = np.arange(len(features), dtype=np.int32)
        return {"features": features, "frames": frames, "seen": np.asarray(len(features))}

    def _compute(self) -> None:
        batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        self._features.append(self._network(as_images(batch)).cpu().numpy())


class _FaceCoefficients:
    """``Collector`` of E-FID's coefficients.

    Landmarks that depend on the frames before them are those of the compared frames alone; others are computed for the
    whole video.
    """

    def __init__(self, extractor: EFIDFeatures, side: Side) -> None:
        whole = extractor.landmarks.single_frames
        self.first, self.count = (0, side.info.frames) if whole else (side.start, side.frames)
        video = side.video if whole else side.key
        self.key = {"what": "efid", "video": video, **extractor.key(side)}
        self._extractor = extractor
        self._side = replace(side, start=self.first, frames=self.count)
        self._stream: LandmarkStream | None = None
        self._faces: list[np.ndarray] = []
        self._frames: list[int] = []
        self._features: list[np.ndarray] = []
        self._seen = 0

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Finds faces and computes coefficients of full batches; see ``Collector``."""
        self._stream = self._stream or self._extractor.landmarks.stream(self._side)
        for frame, face in zip(frames, self._stream.add(frames), strict=True):
            if face is not None:
                self._faces.append(self._extractor.crop(frame, face))
                self._frames.append(self.first + self._seen)
            self._seen += 1
        size = self._extractor.batch_size
        while len(self._faces) >= size:
            self._compute(size)

    def arrays(self) -> Arrays:
        """Selects the speaker's frames; see ``Collector``."""
        if self._faces:
            self._compute(len(self._faces))
        frames = np.asarray(self._frames, np.int32)
        features = np.concatenate(self._features) if self._features else np.zeros((0, 0), np.float32)
        if self._stream is not None and len(frames):
            kept = self._stream.kept()[frames - self.first]
            features, frames = features[kept], frames[kept]
        return {"features": features, "frames": frames, "seen": np.asarray(self._seen)}

    def _compute(self, size: int) -> None:
        batch, self._faces = self._faces[:size], self._faces[size:]
        self._features.append(self._extractor.compute(as_images(batch)))


def title_of(metric: str, network: str, source: Source) -> str:
    """Returns the printed name of a value: the official name only for the official network."""
    if network == "proxy":
        return f"{metric} proxy (small trained network)"
    return metric if source.official else f"{metric} proxy (unofficial weights)"


def as_images(frames: Sequence[np.ndarray]) -> Tensor:
    """Stacks (H, W, 3) uint8 frames to (B, 3, H, W)."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
