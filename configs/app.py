"""The type of ``app.py``'s configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import at_least, between, choice, literal, positive, rule
from configs.preparation import Device, FaceConfig, Landmarks


@dataclass
class AppConfig:
    """``app.py``.

    Attributes:
        ethd: a run directory that was exported, or the export.
        vaid: another V-AID than the one in the export: a run directory or a checkpoint.
        emotion: run directory of the emotion experiment, for labels and texts that the export does not have.
        host: address the page is served at; 127.0.0.1 is this machine alone, 0.0.0.0 everybody who can reach it.
        port: of the page.
        device: auto, cpu, cuda or mps.
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
    host: str = rule("127.0.0.1", lambda value: value.strip(), "an address, e.g. 127.0.0.1 for this machine alone")
    port: int = between(7860, 1, 65535)
    device: str = choice("auto", Device)
    landmarks: str | None = choice(None, Landmarks)
    face: FaceConfig = field(default_factory=FaceConfig)
    audio_model: str | None = literal(None)
    codec_model: str | None = literal(None)
    max_seconds: float = positive(60.0)
    max_megabytes: float = positive(50.0)
    max_waiting: int = positive(8)
    keep_minutes: float = at_least(30.0, 1)  # a page that was opened a moment ago still needs its pictures
