"""The type of ``app.py``'s configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import literal
from configs.preparation import FaceConfig


@dataclass
class AppConfig:
    """``app.py``.

    Attributes:
        ethd: a run directory that was exported, or the export.
        vaid: another V-AID than the one in the export: a run directory or a checkpoint.
        emotion: run directory of the emotion experiment, for labels and texts that the export does not have.
        host: address the page is served at; 127.0.0.1 is this machine alone, 0.0.0.0 everybody who can reach it.
        port: of the page.
        device: auto, cpu or cuda.
        landmarks: mediapipe or sidecar instead of the landmarks the data was prepared with.
        face: crop and limits, as they were in prepare.py.
        audio_model: folder of the audio encoder, where the data was made with a user's own.
        codec_model: the same for the codec.
        max_seconds: longest speech and driving video, seconds.
        max_megabytes: largest file that is taken, MB.
        max_waiting: people who may wait while one is served.
        keep_minutes: files nobody's page holds any more are deleted after this long; those of a page that is closed at
            once.
    """

    ethd: str = literal()
    vaid: str | None = literal(None)
    emotion: str | None = literal(None)
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    landmarks: str | None = None
    face: FaceConfig = field(default_factory=FaceConfig)
    audio_model: str | None = literal(None)
    codec_model: str | None = literal(None)
    max_seconds: float = 60.0
    max_megabytes: float = 50.0
    max_waiting: int = 8
    keep_minutes: float = 30.0
