"""The generation pipeline: one loaded ``EmotiveTalkPipeline`` generates any number of videos.

    pipeline = ModelFiles("outputs/ethd/RUN_ID").load()
    case = VideoCase(Path("face.png"), Path("voice.wav"), Path("out.mp4"), emotion=EmotionConfig(label="happy"))
    pipeline.generate(case)

    for frame in pipeline.frames(pipeline.prepare(case)):  # each as soon as it is final, no file
        show(frame)

Steps:

    portrait, speech, emotion -> driving signals -> latents in fused windows -> frames -> video file and its record

Frames are decoded and written while later ones are sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from configs.generation import DrivingMode
from configs.preparation import FaceConfig
from encoders.factory import build_as
from encoders.protocols import FPS
from generation.batch import VideoCase
from generation.blinks import eyelids_of
from generation.driving import driving_signals
from generation.errors import GenerationError
from generation.head_motion import pose_of
from generation.inputs import look_at_inputs
from generation.memory import GenerationMemory, memory_of
from generation.portrait import PasteBack, PreparedPortrait, read_portrait
from generation.record import DISCLOSURE, environment, fingerprint, record_path, require_writable_video, write_record
from generation.speech import PreparedSpeech, read_speech
from generation.streams import LiveStream
from lightning_modules.emotion.sources import EmotionSource
from lightning_modules.emotion.text_mapping import TextEmotion
from lightning_modules.ethd.export import ExportedModel
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.ethd.sampler import OnProgress, Sampler, SamplingSettings, VideoProgress
from lightning_modules.vaid.network import VAID
from media import MediaInfo, StreamWriter, VideoWriter
from preparation.encoders import Encoders
from preparation.expression import ExpressionReader
from runtime.peak_memory import on_gpu

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

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames in pixels."""
        side = len(self.portrait.frame)
        return PasteBack(self.portrait).size if self.case.paste_back else (side, side)


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
        self._memory: dict[bool, GenerationMemory] = {}  # whether it is an upper bound -> memory

    def generate(
        self, case: VideoCase, on_progress: OnProgress | None = None, stream: LiveStream | None = None
    ) -> Generated:
        """Generates one video. The output file appears only when it is complete.

        Args:
            case: Requested video.
            on_progress: Callback after each step of a window and each written frame.
            stream: Pipe that gets every frame as soon as it is final, in addition to the file.

        Raises:
            GenerationError: If the case cannot be generated.
            WriteError: If the output cannot be written.
            ForeignFileError: If the output or its record exists and is not this program's.
            MediaError: If the speech or a driving video cannot be read, the disk is full, or the reader of the stream
                has closed it.
            UserError: If a portrait or an emotion source is not an image or shows no usable face.
            EmotionError: If the emotion is not available.
            TextError: If a text cannot be encoded.
        """
        require_writable_video(case.output)
        return self.write(self.prepare(case), on_progress, stream)

    def frames(self, prepared: Prepared, on_progress: OnProgress | None = None) -> Iterator[np.ndarray]:
        """Samples and decodes a video; writes no file.

        The first frames are final after n (n + 1) / 2 window-steps for n steps, if the speech has more windows than
        steps. A caller that needs no more frames closes the iterator or leaves it.

        Args:
            prepared: Result of ``prepare``; ``prepared.speech`` has the sound and the number of frames F.
            on_progress: Callback after each step of a window.

        Yields:
            F frames at 25 fps, (H, W, 3) uint8 RGB of ``prepared.size``, each as soon as it is final.

        Raises:
            SamplingError: If a window or its decoding does not fit into the device's memory.
        """
        reference = self.sampler.reference(prepared.portrait.frame)
        paste = PasteBack(prepared.portrait) if prepared.case.paste_back else None
        for frame in self.sampler.frames(
            reference, prepared.signals, prepared.speech.frames, prepared.sampling, on_progress
        ):
            yield frame if paste is None else paste(frame)

    def prepare(self, case: VideoCase) -> Prepared:
        """Reads the files of a case and computes its driving signals. Raises the errors of ``generate``."""
        found = look_at_inputs(case)
        eyelids = None if case.motion.blinks is None else eyelids_of(self.encoders.motion, case.motion.blinks)
        pose = () if case.motion.head == 1 else pose_of(self.encoders.motion, case.motion.head)
        mode = cast(DrivingMode, case.drive)
        sampling, notes = self.sampler.settings(
            case.seed, case.steps, case.window, case.overlap, case.guidance, mode, case.decode_frames
        )
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
            head=case.motion.head,
            pose=pose,
        )
        heavy = self._require_memory(sampling, speech.frames)
        short = hardly_trained(min(sampling.window, speech.frames), self.exported.trained_windows)
        notes = (*notes, *heavy, *short, *portrait.notes, *speech.notes, *emotion.notes, *more)
        known = fingerprint(case, self.weights, self.face, self.landmarks)
        return Prepared(case, portrait, speech, signals, sampling, known, notes)

    def write(
        self, prepared: Prepared, on_progress: OnProgress | None = None, stream: LiveStream | None = None
    ) -> Generated:
        """Writes the output file while frames are sampled, and then its record; each completely or not at all.

        Arguments and errors of ``generate``.
        """
        case, speech, size = prepared.case, prepared.speech, prepared.size
        record = self.record(prepared, size)
        sound: dict[str, Any] = {
            "sound": None if speech.copied else speech.sound,
            "sound_rate": speech.rate,
            "copied": speech.copied,
        }
        with ExitStack() as stack:
            writers: list[VideoWriter | StreamWriter] = [
                stack.enter_context(VideoWriter(case.output, size=size, fps=FPS, metadata=DISCLOSURE, **sound))
            ]
            if stream is not None:
                live = StreamWriter(
                    stream.file, stream.name, stream.kind, size=size, fps=FPS, metadata=DISCLOSURE, **sound
                )
                writers.append(stack.enter_context(live))
            for done, frame in enumerate(self.frames(prepared, on_progress), 1):
                for writer in writers:
                    writer.write(frame)
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

    def _require_memory(self, sampling: SamplingSettings, frames: int) -> tuple[str, ...]:
        """Compares the memory that a video needs with that of the GPU; returns notes if it may not be enough.

        Raises:
            GenerationError: If it cannot be enough.
        """
        if self.device.type != "cuda":
            return ()
        card = torch.cuda.get_device_properties(self.device)
        codec = self.encoders.codec
        decodes = getattr(codec, "device", self.device).type == self.device.type
        others = [self._vaid, self.encoders.audio, self.encoders.motion, *([codec] if decodes else [])]
        given = sampling, frames, sampling.passes
        for rough in (True, False):
            if rough not in self._memory:  # counting takes seconds
                self._memory[rough] = memory_of(
                    self.exported.info, self.sampler.ethd, others, decodes=decodes, rough=rough
                )
            memory = self._memory[rough]
            misfit = memory.misfit(*given, card.total_memory, card.name)
            if misfit is None:
                return ()
        if memory.misfit(*given, on_gpu(card.total_memory), card.name):  # even without what cannot be counted
            raise GenerationError(misfit)
        return (f"{misfit} if it does not fit",)

    def _text_emotion(self, case: VideoCase) -> TextEmotion | None:
        """Returns the text mapping. It is loaded with its encoder when a case first needs it."""
        identity = self.exported.text_encoder
        if case.emotion.text is not None and self._text is None and identity is not None:
            self._text = self.exported.text_emotion(build_as("text", identity))
        return self._text
