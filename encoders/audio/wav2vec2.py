"""wav2vec 2.0 features of every transformer layer at 25 fps.

The network's features come at 50 Hz: feature k looks at samples [320 k, 320 k + 400) and is centred on 320 k + 200.
Video frame i is centred on sample 640 i + 320, which is feature 2 i + 0.375.

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
CHUNK, CONTEXT = 20 * FPS, 1 * FPS  # frames: attention is quadratic in length, so long audio goes in pieces
PUBLISHED = "facebook/wav2vec2-base-960h"
WEIGHT_FILE = "model.safetensors"
# The published checkpoint lacks the vector that masks time steps; it is used in training only.
UNUSED = {"masked_spec_embed"}


class EverySecond(nn.Module):
    """Hallo's way to 25 fps: halve the convolutional features before the transformer sees them.

    Hallo interpolates them linearly (``align_corners=True``) to the number of video frames; for sound that lasts whole
    frames, 2 F - 1 features become F, and the interpolation points are exactly every second feature.
    """

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions

    def forward(self, samples: Tensor) -> Tensor:
        """(B, S) -> (B, C, T)."""
        return self.convolutions(samples)[..., ::2]


class Wav2Vec2Encoder:
    """Speech to the hidden states of a frozen wav2vec 2.0.

    Args:
        model: repository of a known model, or a folder in transformers' format.
        layers: how many of the last transformer layers to keep; 12 is all of the base model.
        resample: ``post`` runs the network at its native 50 Hz and interpolates its outputs to 25 fps at the frames'
            centres; ``pre`` halves the rate before the transformer, as Hallo does.
        device: where the network runs; the features come back on the CPU.

    Raises:
        ValueError: for an unknown ``resample``, or more layers than the model has.
        MissingWeights: when the weights are nowhere and cannot be fetched.
        WrongWeights: when they are not what they should be.
    """

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
        """Features of a clip of any length.

        Args:
            samples: (S,) float32 mono at 16 kHz in [-1, 1], S > 0.

        Returns:
            (F, L, D) float32, F = ceil(S / 640).

        Raises:
            ValueError: when ``samples`` is empty or not one-dimensional.
        """
        frames = frame_count(samples)
        # Over the whole clip, whatever the chunks: loudness must not jump at their borders.
        normal = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        # The last feature of the last frame looks 80 samples past its end.
        padded = nn.functional.pad(normal, (0, frames * SAMPLES_PER_FRAME + FIELD - HOP - len(samples)))
        window = min(CHUNK + 2 * CONTEXT, frames)
        if window == frames:
            return self._encode(padded, frames)
        features = torch.empty(frames, self.layers, self.width)
        for first in range(0, frames, CHUNK):
            last = min(first + CHUNK, frames)
            # All windows are equally long; at the ends the context lies on one side.
            start = min(max(first - CONTEXT, 0), frames - window)
            part = padded[start * SAMPLES_PER_FRAME : (start + window) * SAMPLES_PER_FRAME + FIELD - HOP]
            features[first:last] = self._encode(part, window)[first - start : last - start]
        return features

    def _encode(self, samples: Tensor, frames: int) -> Tensor:
        """(640 F + 80,) normalised samples -> (F, L, D)."""
        if self.resample == "pre":
            samples = samples[: HOP - FIELD]  # whole frames give 2 F - 1 features
        hidden = self.network(samples[None].to(self.device), output_hidden_states=True).hidden_states
        states = torch.cat(hidden[-self.layers :]).transpose(0, 1).float().cpu()
        if self.resample == "pre":
            return states
        after = (SAMPLES_PER_FRAME / 2 - FIELD / 2) / HOP  # 0.375: how far a frame's centre lies past its first feature
        first, second = states.unflatten(0, (frames, 2)).unbind(1)
        return torch.lerp(first, second, after)


def load_network(folder: Path) -> Any:
    """The frozen network of a folder in transformers' format, in float32.

    Raises:
        WrongWeights: when tensors are missing or do not fit.
    """
    from transformers import Wav2Vec2Model
    from transformers.utils import logging

    # transformers tells at length of the head that is not used and of the mask; what matters is checked below.
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
