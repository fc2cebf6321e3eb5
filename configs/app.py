"""Schema of ``app.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import at_least, between, choice, literal, positive, rule
from configs.preparation import Device, FaceConfig, Landmarks


@dataclass
class AppConfig:
    """``app.py``.

    Attributes:
        ethd: Run directory that was exported, or the export.
        vaid: Run directory or checkpoint of another V-AID than the one in the export.
        emotion: Run directory of the emotion experiment, for labels and texts that the export lacks.
        host: Address of the page. 127.0.0.1 serves this machine only, 0.0.0.0 everyone who can reach it.
        port: Port of the page.
        device: auto, cpu, cuda or mps.
        landmarks: mediapipe or sidecar, in place of the landmarks of the training data.
        face: Crop and limits of faces, as in prepare.py.
        audio_model: Folder of the audio encoder, if the data was prepared with your own.
        codec_model: Folder of the codec, if the data was prepared with your own.
        max_seconds: Maximum length of speech and driving video, seconds.
        max_megabytes: Maximum size of an upload, MB.
        max_waiting: Maximum number of waiting visitors.
        keep_minutes: Time after which files of pages that are no longer open are deleted. Files of a page that is
            closed are deleted at once.
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
    keep_minutes: float = at_least(30.0, 1)  # a page that has just been opened still needs its pictures
