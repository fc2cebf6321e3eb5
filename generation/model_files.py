"""Which files the networks behind a video come from: read once from a configuration, hashed for records, and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from configs.preparation import FaceConfig
from encoders.factory import build_as, build_landmark_detector
from generation.pipeline import EmotiveTalkPipeline
from lightning_modules.checkpoints import checkpoint_file
from lightning_modules.emotion.emotion_table import TABLE_FILE
from lightning_modules.emotion.text_mapping import TEXT_FILE
from lightning_modules.ethd.export import emotion_parts, export_file, load_export
from lightning_modules.vaid.checkpoint import load_vaid
from preparation.encoders import Encoders
from runtime.devices import resolve_device
from runtime.files import sha256_of


@dataclass(frozen=True)
class ModelFiles:
    """The trained networks and encoders that videos are made with.

    Attributes:
        ethd: A run directory that was exported, or the file.
        vaid: Another V-AID: a run directory or a checkpoint.
        emotion: A run directory of the emotion experiment, in place of the export's labels and texts.
        device: auto, cpu or cuda.
        face: Crop and limits of faces, as they were in preparation.
        landmarks: Another landmark detector than the data was prepared with.
        audio_model: Folder of the audio encoder, where the data was made with a user's own.
        codec_model: The same for the codec.
    """

    ethd: str | Path
    vaid: str | Path | None = None
    emotion: str | Path | None = None
    device: str = "auto"
    face: FaceConfig = field(default_factory=FaceConfig)
    landmarks: str | None = None
    audio_model: str | None = None
    codec_model: str | None = None

    def load(self) -> EmotiveTalkPipeline:
        """The pipeline of these networks, with the encoders that ETHD was trained with.

        Raises:
            CheckpointError: for a run that is missing, not exported or of another stage, or a V-AID of other encoders.
            WeightsError: for a damaged file, and when an encoder's weights are missing or wrong.
            EncoderError: when an encoder here is not the one of the training.
            DeviceError: for device=cuda without a GPU.
        """
        device = torch.device(resolve_device(self.device))
        exported = load_export(self.ethd)
        wanted = exported.info.encoders
        other = None if self.vaid is None else load_vaid(checkpoint_file(self.vaid), wanted)
        if self.emotion is not None:
            table, text = emotion_parts(self.emotion, wanted["motion"])
            exported = replace(exported, table=table, text=text)
        named = self.landmarks
        encoders = Encoders(
            landmarks=build_landmark_detector(named) if named else build_as("landmarks", wanted["landmarks"]),
            audio=build_as("audio", wanted["audio"], str(device), self.audio_model),
            motion=build_as("motion", wanted["motion"], str(device)),
            codec=build_as("codec", wanted["codec"], str(device), self.codec_model),
        )
        known = self.hashes()
        return EmotiveTalkPipeline(
            exported, encoders, vaid=other, device=device, face=self.face, landmarks=named, weights=known
        )

    def hashes(self) -> dict[str, str]:
        """The sha256 of every file of weights, as records hold them.

        Raises:
            CheckpointError: when one is missing.
        """
        files = {"ethd": export_file(self.ethd)}
        if self.vaid is not None:
            files["vaid"] = checkpoint_file(self.vaid)
        if self.emotion is not None:
            parts = {name: Path(self.emotion) / name for name in (TABLE_FILE, TEXT_FILE)}
            files |= {name: file for name, file in parts.items() if file.exists()}
        return {name: sha256_of(file) for name, file in files.items()}
