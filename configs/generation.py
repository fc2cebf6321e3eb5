"""Schemas of ``generate.py`` and of ``train.py task=export``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.emotion import EmotionConfig
from configs.fields import Constraint, at_least, between, choice, literal, part, positive, share
from configs.models import MAX_GUIDANCE
from configs.preparation import Device, FaceConfig, Landmarks

DrivingMode = Literal["both", "lips", "expression"]


@dataclass
class DrivingEmotionConfig(EmotionConfig):
    """Emotion source, and how a driving video is fitted to the length of the speech.

    Attributes:
        extend: A driving video shorter than the speech is played back and forth (pingpong), stays at its last frame
            (hold) or is refused (error). A longer one is cut.
        run: Run directory of the emotion experiment. Its label table and text mapping are used in place of those of the
            export, which may lack them.
    """

    extend: str = choice("pingpong", "pingpong", "hold", "error")
    run: str | None = literal(None)


@dataclass
class MotionConfig:
    """Movements that a user may ask for.

    Attributes:
        blinks: Blinks per minute, 0 for none; null leaves those that are predicted. The motion encoder must have
            eyelids, as blendshapes and landmarks do.
        head: Amount of head motion: 0 keeps the head still, 1 is as predicted, 2 is twice as much. The motion encoder
            must have the pose: encoders/motion=landmarks_pose or blendshapes_pose.
    """

    blinks: float | None = between(None, 0, 60)
    head: float = between(1.0, 0, 2)


@dataclass
class GuidanceConfig:
    """Classifier-free guidance for lips and for expression apart; see ``lightning_modules/ethd/guidance.py``.

    Attributes:
        lips: Scale of the lip condition: 1 is no guidance, a larger one follows the speech more. Null for the value in
            the training configuration, which is 1 unless it was set.
        expression: Scale of the expression condition, in the same way.
        low: Guidance acts at noise levels above this share of the diffusion steps.
        high: Guidance acts at noise levels up to this share of the diffusion steps, 1 is pure noise.
    """

    lips: float | None = between(None, 0, MAX_GUIDANCE)
    expression: float | None = between(None, 0, MAX_GUIDANCE)
    low: float = share(0.0)
    high: float = share(1.0)


@dataclass
class LipsConfig:
    """Changes of the lip latents l_a before they drive the video.

    Attributes:
        strength: Factor on the lip latents: 0 keeps the mouth still, 1 is as predicted, up to 2 exaggerates. They are
            standardised, so 0 is the mean mouth of the training data.
    """

    strength: float = between(1.0, 0, 2)


@dataclass
class GenerateConfig:
    """Configuration of ``generate.py``. Without ``ethd``, an example is made; see ``generation/examples.py``.

    Attributes:
        portrait: Picture of the face, or a video of it. With landmarks=sidecar, ``face.csv`` next to ``face.png`` holds
            its landmarks.
        portrait_time: Time of the frame of a video that is the portrait, seconds; null for its first frame.
        speech: Any file with sound.
        output: The video, ``.mp4``, or a folder, in which its name is made from those of portrait and speech.
        ethd: Run directory that was exported, or the export. Null for the small model of this repository with one of
            the synthetic speakers it can animate.
        vaid: Run directory or checkpoint of another V-AID than the one in the export.
        emotion: Emotion source.
        guidance: Guidance of lips and expression, for networks that were trained with dropout of these conditions.
        lips: Strength of the lip movements.
        drive: Driving signals: ``both``; ``lips`` keeps the portrait's own expression; ``expression`` leaves the lips
            without a signal.
        motion: Movements that a user may ask for.
        steps: Number of DDIM steps; null for the number in the training configuration (25 in the paper).
        seed: Seed of all sampling noise.
        window: Frames of a sampling window; null for the training window.
        overlap: Frames that two consecutive windows share; null for the number in the training configuration, or a
            fifth of ``window``.
        decode_frames: Most frames that the codec decodes together; null for its own number (16). Fewer need less
            memory. SVD's decoder gives other pixels then, since it normalises over them.
        decode_device: Device of the codec: auto for that of the networks, or cpu, cuda or mps.
        stream: Named pipe, or - for standard output, that gets the frames while later ones are sampled, in addition to
            ``output``.
        stream_format: ``mp4``, a fragmented MP4 with sound, or ``rgb24``, the bytes of the frames without sound.
        paste_back: Paste the face into the whole portrait instead of writing the crop.
        batch: CSV file with one video per row. Its columns are keys of this list; values that a row leaves out are
            taken from here.
        part: ``i/n``: the i-th of n parts of the batch, i from 1.
        allow_outside: Whether a row's ``output`` may lie outside of the folder ``output``.
        device: auto, cpu, cuda or mps.
        landmarks: mediapipe or sidecar, in place of the landmarks of the training data.
        face: Crop and limits of faces, as in prepare.py.
        audio_model: Folder of the audio encoder, if the data was prepared with your own.
        codec_model: Folder of the codec, if the data was prepared with your own.
    """

    portrait: str | None = literal(None)
    portrait_time: float | None = at_least(None, 0.0)
    speech: str | None = literal(None)
    output: str | None = literal(None)
    ethd: str | None = literal(None)
    vaid: str | None = literal(None)
    emotion: DrivingEmotionConfig = field(default_factory=DrivingEmotionConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    lips: LipsConfig = field(default_factory=LipsConfig)
    drive: str = choice("both", DrivingMode)
    motion: MotionConfig = field(default_factory=MotionConfig)
    steps: int | None = positive(None)
    seed: int = between(0, 0, 2**63 - 1)
    window: int | None = positive(None)
    overlap: int | None = at_least(None, 0)
    decode_frames: int | None = positive(None)
    decode_device: str = choice("auto", Device)
    stream: str | None = literal(None)
    stream_format: str = choice("mp4", "mp4", "rgb24")
    paste_back: bool = False
    batch: str | None = literal(None)
    part: str = part()
    allow_outside: bool = False
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
        run: Run directory of stage ethd, or a checkpoint.
        vaid: V-AID of the training, for a run of an earlier version, which does not hold it.
        emotion: Run directory of the emotion experiment. Its label table and text mapping become part of the export and
            of later exports of the run.
        output: File to write in place of RUN/export/ethd.safetensors.
        half: Store the weights as float16: half the size, for a file to give away.
        scores: JSON file of tools.quality.ethd_synthetic, whose numbers become part of the file's record.
        sampling_steps: Number of DDIM steps, if generation names no other; null for that of the training. What is best
            is known after the training (tools.quality.guidance).
        lip_guidance: Scale of the lip condition, in the same way.
        expression_guidance: Scale of the expression condition, in the same way.
    """

    task: str = choice("export", "export")
    run: str = literal()
    vaid: str | None = literal(None)
    emotion: str | None = literal(None)
    output: str | None = literal(None, Constraint(lambda value: value.endswith(".safetensors"), "a .safetensors file"))
    half: bool = False
    scores: str | None = literal(None)
    sampling_steps: int | None = positive(None)
    lip_guidance: float | None = between(None, 0, MAX_GUIDANCE)
    expression_guidance: float | None = between(None, 0, MAX_GUIDANCE)

    def sampling(self) -> dict[str, float]:
        """The defaults of sampling that replace those of the training."""
        chosen = {name: getattr(self, name) for name in ("sampling_steps", "lip_guidance", "expression_guidance")}
        return {name: value for name, value in chosen.items() if value is not None}
