"""Audio features that are made while training, from the sound in the shards (``data.audio=encoded``).

The encoder sees whole clips, as in ``prepare.py``, so that the features of a window are those of its clip. They are
rounded to half precision as the stored ones are. The features of recent clips are kept.

Shapes: B clips, N frames of the window, F frames of a clip, L layers, D width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from datamodules.clip_windows import ClipBatch
from datamodules.schema import SAMPLES_PER_FRAME, Dimensions, ShardError
from encoders.factory import build_as
from encoders.protocols import AudioEncoder, Identity

KEPT_BYTES = 512 << 20  # of features, in each training process


class AudioFeatures:
    """Makes the audio features of batches.

    Args:
        identity: Audio encoder of the shards.
        dimensions: Sizes of its features by the index.
        model: Folder of its network if it is not the published one.
        kept_bytes: Size of the features that are kept.
    """

    def __init__(
        self, identity: Identity, dimensions: Dimensions, model: str | None = None, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self.identity = identity
        self.encoded = 0  # clips
        self._shape = (dimensions.audio_layers, dimensions.audio_width)
        self._model = model
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._encoders: dict[torch.device, AudioEncoder] = {}

    def encoder(self, device: torch.device) -> AudioEncoder:
        """The encoder on a device.

        Raises:
            EncoderError: If the encoder that is there has other weights or options than that of the shards.
            MissingWeights: If its weights are not there.
        """
        if device not in self._encoders:
            self._encoders[device] = build_as("audio", self.identity, str(device), self._model)
        return self._encoders[device]

    def add_to(self, batch: ClipBatch) -> None:
        """Replaces the sound of whole clips by the audio features of their windows, on the device of the sound.

        Raises:
            ShardError: If the encoder gives features of another size than the index states.
        """
        speech = batch.pop("clip_speech")
        counts = batch.pop("clip_frames").tolist()
        audio = torch.zeros(*batch["mask"].shape, *self._shape, dtype=torch.float16)
        for row, key in enumerate(batch["key"]):
            start, frames = int(batch["start"][row]), int(batch["frames"][row])
            audio[row, :frames] = self._of_clip(key, speech[row], counts[row])[start : start + frames]
        batch["audio"] = audio.to(speech.device)

    def _of_clip(self, key: str, speech: Tensor, frames: int) -> Tensor:
        """(F, L, D) float16 features of a clip, on the CPU."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        samples = speech[: frames * SAMPLES_PER_FRAME]
        features = self.encoder(speech.device)(samples).to("cpu", torch.float16)
        self.encoded += 1
        if tuple(features.shape) != (frames, *self._shape):
            raise ShardError(
                f"{key}: {self.identity.name} gives features of {tuple(features.shape)}, expected "
                f"{(frames, *self._shape)} by the index; prepare the data again"
            )
        self._kept[key] = features
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)
        return features
