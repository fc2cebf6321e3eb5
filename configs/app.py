"""Schema of ``app.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from configs.fields import at_least, between, choice, literal, positive, rule
from configs.preparation import Device, FaceConfig, Landmarks


def _is_name(value: str) -> bool:
    return re.fullmatch(r"[\w-]+(\.[\w-]+)*", value) is not None


def _is_path(value: str) -> bool:
    return re.fullmatch(r"(/[\w.~-]+)*", value) is not None


@dataclass
class AppConfig:
    """Configuration of ``app.py``.

    Attributes:
        ethd: Run directory that was exported, or the export. Null for the small model of this repository.
        vaid: Run directory or checkpoint of another V-AID than the one in the export.
        emotion: Run directory of the emotion experiment, for labels and texts that the export lacks.
        host: Address of the page. 127.0.0.1 serves this machine only, 0.0.0.0 everyone who can reach it.
        port: Port of the page.
        password_file: File whose first line is the password of the page; otherwise the environment variable
            EMOTIVETALK_PASSWORD holds it. A host that other machines can reach needs one.
        names: Further names under which browsers open the page, e.g. that of the proxy in front of it. The host and
            localhost are known, and the machine's addresses if it serves other machines.
        root_path: Path under which a proxy serves the page, e.g. /talk; empty for the root.
        device: auto, cpu, cuda or mps.
        landmarks: mediapipe or sidecar, in place of the landmarks of the training data.
        face: Crop and limits of faces, as in prepare.py.
        audio_model: Folder of the audio encoder, if the data was prepared with your own.
        codec_model: Folder of the codec, if the data was prepared with your own.
        max_seconds: Maximum length of speech and driving video, seconds.
        max_megabytes: Maximum size of an upload, MB.
        visitor_megabytes: Maximum size of all uploads of a visitor, MB.
        visitor_files: Maximum number of uploads of a visitor.
        total_megabytes: Maximum size of the uploads of all visitors, MB.
        max_waiting: Maximum number of waiting videos.
        visitor_waiting: Maximum number of videos of one visitor that wait or are made.
        visitor_minutes: Minutes per hour of the device for one visitor while others wait.
        keep_minutes: Time after which uploads are deleted that no open page holds. Those of a page are deleted when it
            is closed.
    """

    ethd: str | None = literal(None)
    vaid: str | None = literal(None)
    emotion: str | None = literal(None)
    host: str = rule("127.0.0.1", lambda value: value.strip(), "an address, e.g. 127.0.0.1 for this machine alone")
    port: int = between(7860, 1, 65535)
    password_file: str | None = literal(None)
    names: list[str] = rule([], _is_name, "a name without port, e.g. names=[lab.example.org]")
    root_path: str = rule("", _is_path, "a path such as /talk, or nothing")
    device: str = choice("auto", Device)
    landmarks: str | None = choice(None, Landmarks)
    face: FaceConfig = field(default_factory=FaceConfig)
    audio_model: str | None = literal(None)
    codec_model: str | None = literal(None)
    max_seconds: float = positive(60.0)
    max_megabytes: float = positive(50.0)
    visitor_megabytes: float = positive(250.0)
    visitor_files: int = positive(30)
    total_megabytes: float = positive(2000.0)
    max_waiting: int = positive(8)
    visitor_waiting: int = positive(2)
    visitor_minutes: float = positive(30.0)
    keep_minutes: float = at_least(30.0, 1)  # a page that has just been opened still needs its pictures
