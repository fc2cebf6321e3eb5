"""The files of all networks behind a video: resolved once from a configuration, hashed for records, loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch

from configs.generation import DrivingMode
from configs.preparation import FaceConfig
from encoders.factory import build_as, build_landmark_detector
from generation.batch import VideoCase
from generation.inputs import look_at_inputs
from generation.pipeline import EmotiveTalkPipeline
from lightning_modules.checkpoints import checkpoint_file
from lightning_modules.emotion.emotion_table import TABLE_FILE
from lightning_modules.emotion.text_mapping import TEXT_FILE
from lightning_modules.ethd.export import emotion_parts, export_config, export_file, load_export
from lightning_modules.ethd.sampler import sampling_settings
from lightning_modules.vaid.checkpoint import load_vaid
from preparation.encoders import Encoders
from runtime.devices import resolve_device
from runtime.files import sha256_of


@dataclass(frozen=True)
class ModelFiles:
    """Files of the trained networks and encoders that generate videos.

    Attributes:
        ethd: Directory of an exported ETHD run, or the exported file.
        vaid: Run directory or checkpoint of a V-AID that replaces the exported one.
        emotion: Directory of an emotion run whose labels and texts replace the exported ones.
        device: Device: auto, cpu or cuda.
        face: Crop and limits of faces, as in preparation.
        landmarks: Landmark detector that replaces the one the data was prepared with.
        audio_model: Folder of the audio encoder, if the data was prepared with a user's own.
        codec_model: Folder of the codec, if the data was prepared with a user's own.
        codec_device: Device of the codec: auto for ``device``, or cpu, which needs no GPU memory but more time.
    """

    ethd: str | Path
    vaid: str | Path | None = None
    emotion: str | Path | None = None
    device: str = "auto"
    face: FaceConfig = field(default_factory=FaceConfig)
    landmarks: str | None = None
    audio_model: str | None = None
    codec_model: str | None = None
    codec_device: str = "auto"

    def load(self) -> EmotiveTalkPipeline:
        """Loads the pipeline with the encoders that ETHD was trained with.

        Raises:
            CheckpointError: If a run is missing, not exported or of another stage, or V-AID used other encoders.
            WeightsError: If a file is damaged, or the weights of an encoder are missing or wrong.
            EncoderError: If an encoder differs from the one used in training.
            DeviceError: If device is cuda and there is no GPU.
        """
        device = torch.device(resolve_device(self.device))
        codec_device = (
            str(device) if self.codec_device == "auto" else resolve_device(self.codec_device, "decode_device")
        )
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
            codec=build_as("codec", wanted["codec"], codec_device, self.codec_model),
        )
        known = self.hashes()
        return EmotiveTalkPipeline(
            exported, encoders, vaid=other, device=device, face=self.face, landmarks=named, weights=known
        )

    def check(self, case: VideoCase) -> None:
        """Checks what is known of a case before any network is loaded: its files, and its settings.

        Raises:
            MediaError: If a file cannot be read, or exceeds a limit.
            SamplingError, GuidanceError: If the settings contradict those of the network's training.
            CheckpointError, WeightsError: If the export is missing, or its header cannot be read.
        """
        config, mode = export_config(self.ethd), cast(DrivingMode, case.drive)
        sampling_settings(config, case.seed, case.steps, case.window, case.overlap, case.guidance, mode)
        look_at_inputs(case)

    def hashes(self) -> dict[str, str]:
        """Returns the SHA-256 of every weight file, as stored in records.

        Raises:
            CheckpointError: If a file is missing.
        """
        files = {"ethd": export_file(self.ethd)}
        if self.vaid is not None:
            files["vaid"] = checkpoint_file(self.vaid)
        if self.emotion is not None:
            parts = {name: Path(self.emotion) / name for name in (TABLE_FILE, TEXT_FILE)}
            files |= {name: file for name, file in parts.items() if file.exists()}
        return {name: sha256_of(file) for name, file in files.items()}
