"""The types of ``generate.py``'s configuration, and of ``train.py task=export``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.emotion import EmotionConfig
from configs.fields import at_least, between, choice, literal, part, positive
from configs.preparation import Device, FaceConfig, Landmarks

DrivingMode = Literal["both", "lips", "expression"]


@dataclass
class DrivingEmotionConfig(EmotionConfig):
    """Where the emotion comes from, and what happens to a driving video of another length.

    Attributes:
        extend: a driving video shorter than the speech runs back and forth (pingpong), stays at its last frame (hold)
            or is refused (error). A longer one is cut.
        run: run directory of the emotion experiment, for an export without label table and text mapping, or in place
            of them.
    """

    extend: str = choice("pingpong", "pingpong", "hold", "error")
    run: str | None = literal(None)


@dataclass
class GenerateConfig:
    """``generate.py``.

    Attributes:
        portrait: a picture of the face; with landmarks=sidecar its landmarks stand beside it, ``face.csv``.
        speech: any file with sound.
        output: the video, ``.mp4``, or a folder, in which it is named after what it is made from.
        ethd: a run directory that was exported, or the export.
        vaid: another V-AID than the one in the export: a run directory or a checkpoint.
        emotion: whose expression is shown.
        drive: both; lips: the expression stays the portrait's own; expression: the lips are not driven.
        steps: of DDIM; null for the training configuration's, the paper's 25.
        seed: of all noise.
        window: frames of a sampling window; null for the length the network was trained with.
        overlap: frames two windows share; null for the training configuration's, or a fifth of another window.
        paste_back: put the face back into the whole portrait instead of writing the crop.
        batch: a CSV file with one video a row; its columns are keys of this list, and what a row leaves out is taken
            from here.
        part: ``i/n``: the i-th of n parts of the batch, i from 1.
        device: auto, cpu, cuda or mps.
        landmarks: mediapipe or sidecar instead of the landmarks the data was prepared with.
        face: crop and limits, as they were in prepare.py.
        audio_model: folder of the audio encoder, where the data was made with a user's own.
        codec_model: the same for the codec.
    """

    portrait: str | None = literal(None)
    speech: str | None = literal(None)
    output: str | None = literal(None)
    ethd: str = literal()
    vaid: str | None = literal(None)
    emotion: DrivingEmotionConfig = field(default_factory=DrivingEmotionConfig)
    drive: str = choice("both", DrivingMode)
    steps: int | None = positive(None)
    seed: int = between(0, 0, 2**63 - 1)
    window: int | None = positive(None)
    overlap: int | None = at_least(None, 0)
    paste_back: bool = False
    batch: str | None = literal(None)
    part: str = part()
    device: str = choice("auto", Device)
    landmarks: str | None = choice(None, Landmarks)
    face: FaceConfig = field(default_factory=FaceConfig)
    audio_model: str | None = literal(None)
    codec_model: str | None = literal(None)


@dataclass
class ExportConfig:
    """``train.py task=export``.

    Attributes:
        task: export.
        run: a run directory of stage ethd, or a checkpoint.
        vaid: the V-AID it was trained with, where that was moved since.
        emotion: a run directory of the emotion experiment, whose labels and texts become part of the export.
    """

    task: str = choice("export", "export")
    run: str = literal()
    vaid: str | None = literal(None)
    emotion: str | None = literal(None)
