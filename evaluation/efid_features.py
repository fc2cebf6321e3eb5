"""Features of E-FID: expression coefficients of every frame with a face.

Shapes: N frames with a face, B faces, D coefficients, S x S pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import EFIDConfig
from encoders.weights import locate
from evaluation.aligned_clips import Clips, Side
from evaluation.cache import Arrays
from evaluation.extractor import as_images, title_of
from evaluation.landmarks import LandmarkStream, landmarks_for
from evaluation.networks import LoadedNetwork, load, load_proxy
from evaluation.one_pass import Collector
from evaluation.results import Column
from metrics.functional.efid import align_face, ddfa_crop, ddfa_roi
from metrics.networks.deep3d import EXPRESSION, Deep3DFace
from metrics.networks.proxy import ProxyExpression
from metrics.networks.three_ddfa import ThreeDDFA


class EFIDFeatures:
    """``Extractor`` of E-FID: expression coefficients of every frame with a face."""

    name = "efid"
    columns: tuple[Column, ...] = (Column("efid", "E-FID", "lower", low=0.0),)
    unit = "frames"
    convention = "pytorch-fid"

    def __init__(self, config: EFIDConfig, device: torch.device) -> None:
        loaded: LoadedNetwork[Deep3DFace] | LoadedNetwork[ThreeDDFA] | LoadedNetwork[ProxyExpression]
        network: type[Deep3DFace] | type[ThreeDDFA] | ProxyExpression
        if config.network == "deep3d":
            network = Deep3DFace
            loaded = load("deep3dfacerecon", config.weights, "Deep3DFaceRecon ResNet50", Deep3DFace, device)
        elif config.network == "proxy":
            loaded = load_proxy("efid", "expression", config.weights, device, ProxyExpression)
            network = loaded.network
        else:
            network = ThreeDDFA
            loaded = load(
                "3ddfa_v2",
                config.weights,
                "3DDFA_V2 MobileNet 0.5",
                lambda file: ThreeDDFA(file, locate("3ddfa_v2_statistics")),
                device,
                proxy=True,
            )
        self.landmarks = landmarks_for(config, device)
        self.loaded, self.device = loaded, device
        source = loaded.source
        if source.official and config.landmarks == "sidecar":
            source = replace(source, official=False, note="the official network, but on landmarks from files")
        self.sources = (source, *self.landmarks.sources)
        self.dimensions, self.input_size = network.dimensions, network.input_size
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
        if self.used:
            return align_face(frame, face).image
        return ddfa_crop(frame, ddfa_roi(face), self.input_size)

    def compute(self, faces: Tensor) -> np.ndarray:
        """Computes all coefficients of (B, 3, S, S) faces."""
        network = self.loaded.network
        values = network.coefficients(faces) if isinstance(network, Deep3DFace) else network(faces)
        return values.cpu().numpy()


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
