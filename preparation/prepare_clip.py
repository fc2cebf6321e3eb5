"""Prepares one clip: turns a video file into the members of one sample.

    decode -> landmarks -> crop -> audio, motion, latent -> members of the shard

Frames are decoded twice, once for the landmarks and once for the crops, so that a clip is never in memory at full
size. Shapes: F frames, S sound samples, H x W crop.
"""

from __future__ import annotations

import io
import json
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from configs.preparation import PrepareConfig
from datamodules.schema import PORTRAIT_SIZE, PORTRAITS, SAMPLES_PER_FRAME, SampleMeta
from encoders.factory import EncoderError
from encoders.landmarks.boxes import face_boxes
from encoders.landmarks.face_landmarker import FaceLandmarkerError
from encoders.protocols import FPS, SAMPLE_RATE, FaceTrack
from encoders.weight_files import WeightsError
from media import FrameReader, MediaError, MediaInfo, NoSound, encode_flac, encode_video, look_at, read_sound
from media.flac import as_stored
from media.limits import RECORDINGS
from media.source import identify
from preparation.clip_source import FAILURES, ClipReport, ClipSource, OutOfMemory, Reason, Rejected, media_problem
from preparation.encoder_processes import EncoderDied
from preparation.encoders import Encoders, encode_within
from preparation.scan.pictures import borders, thin, thumbnail
from preparation.scan.shots import find_shots
from preparation.speaker_crop import choose_portraits, crop_frames, find_face, follow_face, square_crop
from runtime.errors import first_line

SAMPLED = 6  # pictures in which borders are looked for
NOTED = 1.5  # enlargement of a crop from which it is noted
STEPS = ("decode", "sound", "landmarks", "crop", "audio", "motion", "codec", "pack")


@dataclass
class PreparedClip:
    """Report, and for a kept clip also metadata and members.

    Attributes:
        report: Result of the preparation.
        meta: Metadata of the sample, None if the clip was not kept.
        members: Member name -> bytes, in writing order; empty if the clip was not kept.
        latent_sums: (3, C) float64: number of values, sum and sum of squares of each latent channel; None if the clip
            was not kept.
    """

    report: ClipReport
    meta: SampleMeta | None = None
    members: dict[str, bytes] = field(default_factory=dict)
    latent_sums: np.ndarray | None = None


def prepare_clip(clip: ClipSource, encoders: Encoders, config: PrepareConfig) -> PreparedClip:
    """Prepares one clip. Problems of the clip end up in its report and raise nothing.

    Raises:
        WeightsError, FaceLandmarkerError, EncoderError: Errors that would affect every clip: missing weights, or an
            encoder that cannot start or returns unexpected sizes.
        EncoderDied: If the process that encodes the clip ends.
        OutOfMemory: If there is not enough memory.
    """
    work = _ClipWork(clip, encoders, config)
    try:
        return work.run()
    except Rejected as rejected:
        return PreparedClip(work.rejected(rejected))
    except MediaError as error:
        return PreparedClip(work.rejected(media_problem(clip, error)))
    except (WeightsError, FaceLandmarkerError, EncoderError, EncoderDied):
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(
            f"{clip.name}: there is not enough memory to prepare it ({first_line(error)}); set fewer workers= or "
            "a smaller max_seconds=, or free memory, and run the same command again"
        ) from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return PreparedClip(work.rejected(Rejected(Reason.ERROR, detail)))


class _ClipWork:
    """Runs the steps for one clip and measures their times."""

    def __init__(self, clip: ClipSource, encoders: Encoders, config: PrepareConfig) -> None:
        self.clip = clip
        self.encoders = encoders
        self.config = config
        self.seconds: dict[str, float] = {}
        self.notes = list(clip.notes)
        self.frames = 0
        self.annotated: tuple[int, int, int, int] | None = None
        self.reader: FrameReader
        self.thumbnails: list[np.ndarray] = []
        self.keys: list[bool] = []
        self.sampled: list[np.ndarray] = []  # a few whole pictures, for the borders

    def run(self) -> PreparedClip:
        clip, config, encoders = self.clip, self.config, self.encoders
        if clip.problem is not None:
            raise Rejected(clip.problem, clip.problem_detail)
        with self._timed("decode"):
            files = [identify(path) for path in (clip.path, clip.audio) if path is not None]
            info, *_ = [_looked_at(*file) for file in files]
            self.annotated = clip.crop_in(info.width, info.height)
            self.reader = FrameReader(clip.path, start=clip.start, end=clip.end, fps=FPS)
        self.frames = len(self.reader)
        if self.frames < config.min_frames:
            raise Rejected(Reason.TOO_SHORT, f"{self.frames} frames at {FPS} fps, min_frames is {config.min_frames}")
        with self._timed("sound"):
            speech = self._speech()
        with self._timed("landmarks"):
            tracking = find_face(encoders.landmarks, self._watched(), clip.path, clip.start)
        self._require_one_shot()
        track = follow_face(tracking, encoders.landmarks.scheme, config.face, config.frame_size)
        left, top, side = square_crop(track, tracking.size, config.face.scale)
        if config.frame_size > NOTED * side:
            self.notes.append(f"the crop of {side} px is enlarged {config.frame_size / side:.1f} times")
        portrait_frames = choose_portraits(track, PORTRAITS)
        with self._timed("crop"):
            frames, portraits = self._cropped((left, top, side), portrait_frames)
        inside = track.cropped(left, top, config.frame_size / side)
        made: dict[str, torch.Tensor] = {}
        if config.store_audio:
            with self._timed("audio"):
                made["audio"] = encoders.audio(torch.from_numpy(speech))
        with self._timed("motion"):
            lip, expression = encoders.motion(frames, inside)
        with self._timed("codec"):
            pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)
            latent, precision, error = encode_within(
                encoders.codec, pictures, config.precision, config.latent_tolerance
            )
        if [identify(path) for path, *_ in files] != files:
            raise Rejected(Reason.UNREADABLE, "the file changed while it was read; run the command with retry=true")
        made |= {"latent": latent, "lip": lip, "expression": expression}
        encoders.require_announced(made, self.frames, config.frame_size)
        with self._timed("pack"):
            offset = (0, 0) if self.annotated is None else self.annotated[:2]
            meta = SampleMeta(
                key=clip.key,
                dataset=config.dataset.name,
                split=clip.split,
                speaker=clip.speaker,
                source=clip.name,
                start=clip.start,
                source_fps=round(float(info.fps), 3),
                frames=self.frames,
                crop=(left + offset[0], top + offset[1], side),
                frame_size=config.frame_size,
                portrait_frames=tuple(portrait_frames),
                emotion=clip.emotion,
                level=clip.level,
                view=clip.view,
                latent_precision=precision,
                latent_error=error,
                enlargement=round(config.frame_size / side, 4),
                borders=borders(self.sampled),
                sound_lag=clip.lag,
            )
            arrays = {
                "latent": latent.to(torch.float16).numpy(),
                **{name: made[name].to(torch.float16).numpy() for name in ("audio",) if name in made},
                "lip": lip.to(torch.float32).numpy(),
                "expression": expression.to(torch.float32).numpy(),
                "boxes": self._boxes(inside),
                "portraits": portraits,
            }
            meta, members = self._packed(meta, arrays, speech, frames)
        return PreparedClip(self._report("kept"), meta, members, channel_sums(arrays["latent"]))

    def rejected(self, why: Rejected) -> ClipReport:
        """Returns the report of a clip that is not kept."""
        return self._report("failed" if why.reason in FAILURES else "rejected", why.reason, why.detail)

    def _report(self, status: str, reason: Reason | None = None, detail: str = "") -> ClipReport:
        return ClipReport(
            source=self.clip.name,
            key=self.clip.key,
            status=status,
            reason=reason,
            detail=detail,
            frames=self.frames,
            seconds={step: round(spent, 4) for step, spent in self.seconds.items()},
            notes=self.notes,
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def _speech(self) -> np.ndarray:
        """Reads the sound as it is stored, cut or padded to (F * 640,).

        It is silence if there is none and ``audio.required`` is off.
        """
        clip, audio = self.clip, self.config.audio
        wanted = self.frames * SAMPLES_PER_FRAME
        try:
            start, end = clip.start + clip.lag / FPS, None if clip.end is None else clip.end + clip.lag / FPS
            sound = read_sound(clip.audio or clip.path, start=max(0.0, start), end=end, rate=SAMPLE_RATE)
        except NoSound as error:
            if audio.required:
                raise media_problem(clip, error) from error
            self.notes.append("no sound: stored as silence")
            return np.zeros(wanted, np.float32)
        if clip.lag:
            self.notes.append(f"sound moved by {-clip.lag * 1000 // FPS} ms")
        loudest = loudest_second(sound)
        if audio.required and loudest < audio.silence_db:
            raise Rejected(
                Reason.SILENT, f"the loudest second is at {loudest:.0f} dBFS, audio.silence_db is {audio.silence_db:g}"
            )
        difference = (len(sound) - wanted) / SAMPLE_RATE
        # Half a frame of extra tolerance, because the picture's length is rounded to whole frames.
        if abs(difference) > audio.max_mismatch + 0.5 / FPS:
            raise Rejected(
                Reason.AV_MISMATCH,
                f"sound lasts {len(sound) / SAMPLE_RATE:.2f} s, picture {self.frames / FPS:.2f} s; "
                f"audio.max_mismatch is {audio.max_mismatch:g} s",
            )
        if difference < -1e-3:
            self.notes.append(f"sound padded by {-difference * 1000:.0f} ms of silence")
        return as_stored(np.pad(sound[:wanted], (0, max(0, wanted - len(sound)))))

    def _decoded(self) -> Iterable[np.ndarray]:
        """Decodes the frames at 25 fps, cut to the annotated crop where there is one."""
        if self.annotated is None:
            return self.reader
        left, top, width, height = self.annotated
        return (frame[top : top + height, left : left + width] for frame in self.reader)

    def _watched(self) -> Iterator[np.ndarray]:
        """Decodes the frames and keeps their thumbnails, and a few of them."""
        interval = max(1, self.frames // SAMPLED)
        for index, frame in enumerate(self._decoded()):
            self.thumbnails.append(thumbnail(thin(frame)))
            if index % interval == 0:
                self.sampled.append(frame)
            yield frame
        self.keys = list(self.reader.keys)

    def _require_one_shot(self) -> None:
        shots = find_shots(np.stack(self.thumbnails), self.keys) if self.thumbnails else []
        if len(shots) > 1:
            times = ", ".join(f"{start / FPS:.2f}" for start, _, _ in shots[1:6])
            more = ", ..." if len(shots) > 6 else ""
            raise Rejected(
                Reason.CUTS,
                f"cuts at {times}{more} s, expected one shot of one person; task=scan and then task=encode keep each "
                "shot",
            )

    def _cropped(self, box: tuple[float, float, float], portrait_frames: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (F, H, W, 3) crops and the (4, 256, 256, 3) portraits, both uint8."""
        size = self.config.frame_size
        frames = np.empty((self.frames, size, size, 3), np.uint8)
        portraits = {}
        for index, frame in enumerate(self._decoded()):
            frames[index] = next(crop_frames([frame], box, size))
            if index in portrait_frames:
                portraits[index] = next(crop_frames([frame], box, PORTRAIT_SIZE))
        return frames, np.stack([portraits[index] for index in portrait_frames])

    def _boxes(self, track: FaceTrack) -> np.ndarray:
        size = self.config.frame_size
        return face_boxes(track.landmarks, track.scheme, self.config.face.box_scale, (size, size))

    def _packed(
        self, meta: SampleMeta, arrays: dict[str, np.ndarray], speech: np.ndarray, frames: np.ndarray
    ) -> tuple[SampleMeta, dict[str, bytes]]:
        for name, array in arrays.items():
            if array.dtype != np.uint8 and not np.isfinite(array).all():
                raise Rejected(Reason.NOT_FINITE, f"{name} has NaN or infinite values as {array.dtype}")
        names: tuple[str, ...] = ()
        factors = None
        if self.clip.factors is not None:
            factors, names = read_factors(self.clip.factors, self.clip.start, self.frames)
        meta = SampleMeta(**{**asdict(meta), "factor_names": names})
        members = {"meta.json": (json.dumps(asdict(meta), sort_keys=True) + "\n").encode()}
        members |= {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}
        members["speech.flac"] = encode_flac(speech)
        if self.config.store_video == "all" or (self.config.store_video == "test" and meta.split != "train"):
            members["video.mp4"] = encode_video(frames, fps=FPS)
        if factors is not None:
            members["factors.npy"] = npy_bytes(factors)
        return meta, members


@lru_cache(maxsize=8)
def _looked_at(path: Path, size: int, modified: int) -> MediaInfo:
    """Looks at a file in a child process before this one reads it, once for the pieces of a video."""
    del size, modified  # part of the cache's key, so that a changed file is looked at again
    return look_at(path, limits=RECORDINGS)


def loudest_second(sound: np.ndarray) -> float:
    """Returns the RMS level of the loudest second of (S,) samples in [-1, 1], dBFS; -inf for digital silence."""
    if not len(sound):
        return -np.inf
    energy = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
    span = min(SAMPLE_RATE, len(sound))
    mean_square = (energy[span:] - energy[:-span]).max() / span
    return float(10 * np.log10(mean_square)) if mean_square > 0 else -np.inf


def channel_sums(latent: np.ndarray) -> np.ndarray:
    """Returns (3, C) float64: count, sum and sum of squares per channel of an (F, C, h, w) array."""
    values = latent.astype(np.float64)
    count = np.full(values.shape[1], values.size / values.shape[1])
    return np.stack([count, values.sum((0, 2, 3)), (values**2).sum((0, 2, 3))])


def npy_bytes(array: np.ndarray) -> bytes:
    """Returns the bytes of an array as a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_factors(path: Path, start: float, frames: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads the true factors of a synthetic clip, cut to the clip's span.

    Args:
        path: File of the factors (``values`` and ``names``).
        start: Start of the clip in the video, seconds.
        frames: Number of frames F of the clip.

    Returns:
        (F, K) float32 factors and their K names.

    Raises:
        Rejected: DECODE_ERROR if the file has too few frames.
    """
    with np.load(path) as stored:
        values, names = stored["values"], tuple(str(name) for name in stored["names"])
    first = round(start * FPS)
    if len(values) < first + frames:
        raise Rejected(
            Reason.DECODE_ERROR, f"{path.name} has {len(values)} frames of factors, expected {first + frames}"
        )
    return values[first : first + frames].astype(np.float32), names
