"""Features of the transformer layers of wav2vec 2.0 (Baevski et al., 2020) at 25 fps.

The network works at 50 Hz: feature k covers samples [320 k, 320 k + 400) and is centred on sample 320 k + 200. Video
frame i is centred on sample 640 i + 320, at feature position 2 i + 0.375.

Shapes: S samples, F = ceil(S * 25 / 16000) video frames, L transformer layers, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encoders.audio.mel import frame_count
from encoders.protocols import FPS, SAMPLE_RATE, Identity
from encoders.weights import WrongWeights, model_folder
from runtime.files import sha256_of

HOP, FIELD = 320, 400
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
CHUNK, CONTEXT = 20 * FPS, 1 * FPS  # frames; attention is quadratic in length, so long audio is split into chunks
PUBLISHED = "facebook/wav2vec2-base-960h"
WIDTH = 768  # of the published model
WEIGHT_FILE = "model.safetensors"
# The published checkpoint lacks the vector that masks time steps, which is used only in training.
UNUSED = {"masked_spec_embed"}


class EverySecond(nn.Module):
    """Halves the rate of the convolutional features before the transformer, as Hallo does.

    Hallo interpolates them linearly (``align_corners=True``) to the number of video frames. For sound of whole frames
    this maps 2 F - 1 features to F, and the interpolation points are exactly every second feature.
    """

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions

    def forward(self, samples: Tensor) -> Tensor:
        """Maps (B, S) samples to (B, C, T) features."""
        return self.convolutions(samples)[..., ::2]


class Wav2Vec2Encoder:
    """``AudioEncoder`` of the hidden states of a frozen wav2vec 2.0.

    Args:
        model: Repository of the published model, or a folder in transformers' format.
        layers: Number of last transformer layers to keep; the base model has 12.
        resample: ``post`` runs the network at 50 Hz and interpolates its outputs at the frames' centres; ``pre`` halves
            the rate before the transformer, as Hallo does.
        device: Device of the network; features are returned on the CPU.

    Raises:
        ValueError: If ``resample`` is unknown, or the model has fewer layers.
        MissingWeights: If the weights are not found and cannot be downloaded.
        WrongWeights: If the files are not the published ones or not a wav2vec 2.0 model.
    """

    @staticmethod
    def announced(model: str = PUBLISHED, layers: int = 12, **_: str) -> dict[str, int]:
        """Sizes of the features; no width for a model in a folder, without building an encoder."""
        return {"layers": layers} | ({"width": WIDTH} if model == PUBLISHED else {})

    def __init__(
        self, model: str = PUBLISHED, layers: int = 12, resample: Literal["post", "pre"] = "post", device: str = "cpu"
    ) -> None:
        if resample not in ("post", "pre"):
            raise ValueError(f"encoders.audio.options.resample: must be post or pre, found {resample!r}")
        folder = model_folder(model, "wav2vec2-base-960h", PUBLISHED, "encoders.audio.options.model")
        self.network = load_network(folder).to(device)
        depth = self.network.config.num_hidden_layers
        if not 1 <= layers <= depth:
            raise ValueError(f"encoders.audio.options.layers: {model} has {depth} layers, found layers={layers}")
        if resample == "pre":
            self.network.feature_extractor = EverySecond(self.network.feature_extractor)
        self.resample = resample
        self.layers = layers
        self.width = int(self.network.config.hidden_size)
        self.device = torch.device(device)
        self.identity = Identity(
            "wav2vec2", {"layers": layers, "resample": resample}, {WEIGHT_FILE: sha256_of(folder / WEIGHT_FILE)}
        )

    @torch.inference_mode()
    def __call__(self, samples: Tensor) -> Tensor:
        """Computes the features of a clip of any length.

        Args:
            samples: (S,) float32 mono at 16 kHz in [-1, 1], S > 0.

        Returns:
            (F, L, D) float32, F = ceil(S / 640).

        Raises:
            ValueError: If ``samples`` is empty or not one-dimensional.
        """
        frames = frame_count(samples)
        # Normalised over the whole clip, not per chunk, so that the loudness does not jump at chunk borders.
        normal = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        # The last feature covers 80 samples after the end of the last frame.
        padded = nn.functional.pad(normal, (0, frames * SAMPLES_PER_FRAME + FIELD - HOP - len(samples)))
        window = min(CHUNK + 2 * CONTEXT, frames)
        if window == frames:
            return self._encode(padded, frames)
        features = torch.empty(frames, self.layers, self.width)
        for first in range(0, frames, CHUNK):
            last = min(first + CHUNK, frames)
            # All windows have equal length; at the ends of the clip the whole context is on one side.
            start = min(max(first - CONTEXT, 0), frames - window)
            part = padded[start * SAMPLES_PER_FRAME : (start + window) * SAMPLES_PER_FRAME + FIELD - HOP]
            features[first:last] = self._encode(part, window)[first - start : last - start]
        return features

    def _encode(self, samples: Tensor, frames: int) -> Tensor:
        """Encodes (640 F + 80,) normalised samples to (F, L, D)."""
        if self.resample == "pre":
            samples = samples[: HOP - FIELD]  # whole frames give 2 F - 1 features
        hidden = self.network(samples[None].to(self.device), output_hidden_states=True).hidden_states
        states = torch.cat(hidden[-self.layers :]).transpose(0, 1).float().cpu()
        if self.resample == "pre":
            return states
        after = (SAMPLES_PER_FRAME / 2 - FIELD / 2) / HOP  # 0.375: distance from a frame's first feature to its centre
        first, second = states.unflatten(0, (frames, 2)).unbind(1)
        return torch.lerp(first, second, after)


def load_network(folder: Path) -> Any:
    """Loads the frozen network from a folder in transformers' format, in float32.

    Raises:
        WrongWeights: If tensors are missing or have other shapes.
    """
    from transformers import Wav2Vec2Model
    from transformers.utils import logging

    # transformers warns about the unused head and the mask vector; missing tensors are checked below.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = Wav2Vec2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise WrongWeights(f"{folder}: is not a wav2vec 2.0 model: {str(error).strip()[:300]}") from error
    finally:
        logging.set_verbosity(verbosity)
    network, info = loaded
    if missing := {name for name in info["missing_keys"] if name.rpartition(".")[2] not in UNUSED}:
        raise WrongWeights(
            f"{folder / WEIGHT_FILE}: is not a wav2vec 2.0 model: {len(missing)} tensors are missing, "
            f"e.g. {min(missing)}"
        )
    return network.eval().requires_grad_(False)
