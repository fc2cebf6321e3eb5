"""The generation pipeline: one loaded ``EmotiveTalkPipeline`` generates any number of videos.

    pipeline = ModelFiles("outputs/ethd/RUN_ID").load()
    case = VideoCase(Path("face.png"), Path("voice.wav"), Path("out.mp4"), emotion=EmotionConfig(label="happy"))
    pipeline.generate(case)

Steps:

    portrait, speech, emotion -> driving signals -> latents in fused windows -> frames -> video file and its record
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from configs.generation import DrivingMode
from configs.preparation import FaceConfig
from encoders.factory import build_as
from encoders.protocols import FPS
from generation.batch import VideoCase
from generation.blinks import eyelids_of
from generation.driving import driving_signals
from generation.inputs import look_at_inputs
from generation.portrait import PasteBack, PreparedPortrait, read_portrait
from generation.record import DISCLOSURE, environment, fingerprint, record_path, require_writable_video, write_record
from generation.speech import PreparedSpeech, read_speech
from lightning_modules.emotion.sources import EmotionSource
from lightning_modules.emotion.text_mapping import TextEmotion
from lightning_modules.ethd.export import ExportedModel
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.ethd.sampler import OnProgress, Sampler, SamplingSettings, VideoProgress
from lightning_modules.vaid.network import VAID
from media import MediaInfo, VideoWriter
from preparation.encoders import Encoders
from preparation.expression import ExpressionReader

HARDLY_TRAINED = (
    0.1  # share of the training's frames in windows as long as those of a video, below which a note is shown
)


@dataclass(frozen=True)
class Prepared:
    """A case with its files read and its driving signals computed.

    Attributes:
        case: Requested video.
        portrait: Face to animate.
        speech: Sound; its number of frames is that of the video.
        signals: Driving signals of all frames, on the host.
        sampling: Seed, steps and windows.
        fingerprint: Hashes and settings that the video depends on, for its record.
        notes: Notes for the user.
    """

    case: VideoCase
    portrait: PreparedPortrait
    speech: PreparedSpeech
    signals: DrivingSignals
    sampling: SamplingSettings
    fingerprint: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Generated:
    """A generated video file.

    Attributes:
        path: Video file.
        frames: Number of frames, at 25 fps.
        size: (width, height) in pixels.
        notes: Notes for the user.
    """

    path: Path
    frames: int
    size: tuple[int, int]
    notes: tuple[str, ...]


def hardly_trained(window: int, trained_windows: Mapping[int, int]) -> tuple[str, ...]:
    """A note if few of the training's frames were in windows as long as those of generation.

    Args:
        window: Frames per window of the video.
        trained_windows: Length of a window -> frames that were trained in windows of that length.
    """
    total = sum(trained_windows.values())
    share = sum(frames for length, frames in trained_windows.items() if length >= window) / total if total else 1.0
    if share >= HARDLY_TRAINED:
        return ()
    lengths = sorted(trained_windows, reverse=True)
    most = next(n for n in lengths if sum(trained_windows[m] for m in lengths if m >= n) >= total / 2)
    return (
        f"window={window}: {share:.0%} of the training's frames were in windows this long; half of them were in "
        f"windows of {most} frames or more: try window={most}",
    )


class EmotiveTalkPipeline:
    """Generates videos with one trained ETHD.

    Args:
        exported: Exported networks; moved to ``device``.
        encoders: Frozen encoders that ETHD was trained with.
        vaid: V-AID of the same encoders that replaces the one ETHD was trained with.
        device: Device of the networks.
        face: Crop and limits of faces, as in preparation.
        landmarks: Name of the landmark detector, if it is not the training's.
        weights: name -> SHA-256 of the weight files, for the record of each video.
    """

    def __init__(
        self,
        exported: ExportedModel,
        encoders: Encoders,
        *,
        vaid: VAID | None = None,
        device: torch.device | str = "cpu",
        face: FaceConfig | None = None,
        landmarks: str | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.sampler = Sampler(exported.ethd, exported.info, encoders.codec, self.device)
        # Keep only the network on the device.
        self.exported, self.encoders = replace(exported, ethd=self.sampler.ethd), encoders
        self.face, self.landmarks = face or FaceConfig(), landmarks
        self.weights = dict(weights or {"ethd": exported.sha256})
        self._vaid = (vaid or exported.vaid).to(self.device)
        self._faces = ExpressionReader(encoders.landmarks, encoders.motion, exported.info.frame_side, self.face)
        self._text: TextEmotion | None = None

    def generate(self, case: VideoCase, on_progress: OnProgress | None = None) -> Generated:
        """Generates one video. The output file appears only when it is complete.

        Args:
            case: Requested video.
            on_progress: Callback after each step of a window and each written frame.

        Raises:
            GenerationError: If the case cannot be generated.
            WriteError: If the output cannot be written.
            ForeignFileError: If the output or its record exists and is not this program's.
            MediaError: If the speech or a driving video cannot be read, or the disk is full.
            UserError: If a portrait or an emotion source is not an image or shows no usable face.
            EmotionError: If the emotion is not available.
            TextError: If a text cannot be encoded.
        """
        require_writable_video(case.output)
        prepared = self.prepare(case)
        reference = self.sampler.reference(prepared.portrait.frame)
        latents = self.sampler.sample(
            reference, prepared.signals, prepared.speech.frames, prepared.sampling, on_progress
        )
        return self.write(prepared, latents, on_progress)

    def prepare(self, case: VideoCase) -> Prepared:
        """Reads the files of a case and computes its driving signals. Raises the errors of ``generate``."""
        found = look_at_inputs(case)
        eyelids = None if case.motion.blinks is None else eyelids_of(self.encoders.motion, case.motion.blinks)
        mode = cast(DrivingMode, case.drive)
        sampling, notes = self.sampler.settings(case.seed, case.steps, case.window, case.overlap, case.guidance, mode)
        portrait = read_portrait(
            case.portrait,
            self.encoders.landmarks,
            self.encoders.motion,
            self.exported.info.frame_side,
            self.face,
            case.portrait_time,
        )
        found_speech = found["speech"]
        speech = read_speech(
            case.speech, length=found_speech.sound_duration if isinstance(found_speech, MediaInfo) else None
        )
        source = EmotionSource(self.exported.table, self._text_emotion(case), self._faces)
        emotion = source.resolve(case.emotion, portrait.e_ref)
        # Shards store features in half precision, so the networks were trained on rounded features.
        audio = self.encoders.audio(torch.from_numpy(speech.samples)).half().float()
        signals, more = driving_signals(
            self._vaid,
            self.exported.ethd.variant,
            audio,
            portrait,
            emotion,
            mode=mode,
            extend=case.extend,
            seed=case.seed,
            lip_strength=case.lips.strength,
            trained_with=self.exported.vaid,
            blinks=case.motion.blinks,
            eyelids=eyelids,
        )
        short = hardly_trained(min(sampling.window, speech.frames), self.exported.trained_windows)
        notes = (*notes, *short, *portrait.notes, *speech.notes, *emotion.notes, *more)
        known = fingerprint(case, self.weights, self.face, self.landmarks)
        return Prepared(case, portrait, speech, signals, sampling, known, notes)

    def write(self, prepared: Prepared, latents: Tensor, on_progress: OnProgress | None = None) -> Generated:
        """Decodes into the output file and writes its record; each file is written completely or not at all."""
        case, speech, side = prepared.case, prepared.speech, self.exported.info.frame_side
        paste = PasteBack(prepared.portrait) if case.paste_back else None
        size = (side, side) if paste is None else paste.size
        record = self.record(prepared, size)
        with VideoWriter(
            case.output,
            size=size,
            fps=FPS,
            sound=None if speech.copied else speech.sound,
            sound_rate=speech.rate,
            metadata=DISCLOSURE,
            copied=speech.copied,
        ) as video:
            for done, frame in enumerate(self.sampler.decode(latents), 1):
                video.write(frame if paste is None else paste(frame))
                if on_progress is not None:
                    on_progress(VideoProgress("writing", done, speech.frames))
            # An existing record belongs to the video that is about to be replaced.
            require_writable_video(case.output)
            record_path(case.output).unlink(missing_ok=True)
        write_record(case.output, record)
        return Generated(case.output, speech.frames, size, prepared.notes)

    def record(self, prepared: Prepared, size: tuple[int, int]) -> dict[str, Any]:
        """Returns the content of the record of a video."""
        case, portrait, speech = prepared.case, prepared.portrait, prepared.speech
        identities = {**self.exported.info.encoders, "landmarks": self.encoders.landmarks.identity}
        return {
            "video": {"file": case.output.name, "frames": speech.frames, "fps": FPS, "size": list(size)},
            "disclosure": DISCLOSURE,
            **prepared.fingerprint,
            "sampling": {**asdict(prepared.sampling), "training_steps": self.exported.step},
            "portrait": {"crop": list(portrait.crop), "boxes": portrait.boxes.tolist()},
            "speech": {
                "samples": len(speech.samples),
                "rate_in_video": speech.rate,
                "channels_in_video": len(speech.sound),
                "codec_in_video": speech.codec,
                "copied": speech.copied is not None,
            },
            "encoders": {kind: asdict(identity) for kind, identity in identities.items()},
            "notes": list(prepared.notes),
            "environment": environment(self.device, self.sampler.dtype),
        }

    def _text_emotion(self, case: VideoCase) -> TextEmotion | None:
        """Returns the text mapping. It is loaded with its encoder when a case first needs it."""
        identity = self.exported.text_encoder
        if case.emotion.text is not None and self._text is None and identity is not None:
            self._text = self.exported.text_emotion(build_as("text", identity))
        return self._text
