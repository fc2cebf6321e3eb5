"""Pipeline from a talking video to SyncNet's input crops and sound, as in syncnet_python or in memory.

Mode ``reference`` runs the ffmpeg commands of syncnet_python. Their losses affect the value: the sound is coded as MP3,
the crop as XVID, and each input frame as a strongly compressed JPEG. Mode ``fast`` skips these steps, so its values are
not comparable with published ones.

Shapes: F frames, S samples at 16 kHz, K faces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from configs.evaluation import SyncMode
from media.source import FFMPEG_INPUT
from metrics.functional.sync import SyncScores, audio_windows, sync_distances, sync_scores, sync_windows
from metrics.functional.tracking import CROP_SIZE, Track, crop_face, crop_path, find_shots, track_faces
from metrics.networks.syncnet import WINDOW_FRAMES, SyncNet

FPS = 25
SAMPLE_RATE = 16_000
ENCODERS = ("mpeg4", "libmp3lame", "mjpeg", "pcm_s16le")
BATCH = 16  # pictures that a detector gets at a time
Detector = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class StepError(RuntimeError):
    """Raised if a program fails on a video, e.g. ffmpeg on one without sound."""


@dataclass(frozen=True)
class TrackClip:
    """Input of SyncNet for one face track.

    Attributes:
        frames: (F, 3, 224, 224) uint8 BGR crops at 25 fps.
        samples: (S,) int16 sound at 16 kHz.
        track: Face track of the crops.
        mode: Mode of the pipeline.
    """

    frames: Tensor
    samples: np.ndarray
    track: Track
    mode: SyncMode


def score_clip(clip: TrackClip, network: SyncNet) -> SyncScores:
    """Computes Sync-C, Sync-D and the offset of one track.

    Raises:
        ValueError: If the track or its sound is shorter than six frames.
    """
    windows = sync_windows(len(clip.frames), len(clip.samples))
    lip = network.lip(clip.frames[: windows + WINDOW_FRAMES - 1])
    return sync_scores(sync_distances(lip, network.audio(audio_windows(clip.samples, windows))))


def tracks_in_memory(
    frames: Sequence[np.ndarray],
    samples: np.ndarray,
    detections: Sequence[np.ndarray],
    min_track: int = 50,
    min_face: float = 100.0,
) -> list[TrackClip]:
    """Makes the tracks of a video in mode ``fast``, without re-encoding.

    Args:
        frames: F images (H, W, 3) uint8 RGB at 25 fps.
        samples: (S,) int16 mono at 16 kHz, starting with the first frame.
        detections: (K, >= 4) face boxes of each frame in pixels, from ``detect_faces_of`` or a sidecar file.
        min_track: Minimum number of detections of a track (exclusive).
        min_face: Minimum mean width or height of the face (exclusive), pixels.

    Raises:
        ValueError: If the numbers of frames and detections differ, or the sound has another type or shape.
    """
    if len(frames) != len(detections):
        raise ValueError(
            f"Sync: found {len(frames)} frames and face boxes of {len(detections)}, expected equal numbers"
        )
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"Sync: sound must be (S,) int16 mono at 16 kHz, found {samples.dtype} {samples.shape}")
    clips: list[TrackClip] = []
    for start, end in find_shots(frames):
        if end - start < min_track:
            continue
        for track in track_faces(detections[start:end], min_track, min_face, first=start):
            first, last = int(track.frames[0]), int(track.frames[-1]) + 1
            sound = samples[first * SAMPLE_RATE // FPS : last * SAMPLE_RATE // FPS]
            clips.append(track_in_memory((frames[i] for i in track.frames), sound, track))
    return clips


def track_in_memory(frames: Iterable[np.ndarray], samples: np.ndarray, track: Track) -> TrackClip:
    """Crops a known track in mode ``fast``.

    Args:
        frames: (H, W, 3) uint8 RGB frames of the track, read one at a time.
        samples: (S,) int16 sound at 16 kHz that starts with the track.
        track: The track.
    """
    resized = [_resize_linear(torch.from_numpy(crop)) for crop in _crops(frames, track.boxes)]
    return TrackClip(torch.stack(resized).flip(1), samples, track, "fast")


@dataclass(frozen=True)
class FFmpeg:
    """The ffmpeg program of mode ``reference``; its version is recorded with every value.

    Attributes:
        path: Path of the program.
        version: First line of ``ffmpeg -version``.
    """

    path: str
    version: str

    @classmethod
    def find(cls, path: str | None = None) -> FFmpeg:
        """Finds ffmpeg: the given path, else the search path, else the package imageio-ffmpeg.

        Raises:
            RuntimeError: If ffmpeg is missing, or lacks a default encoder of syncnet_python's commands.
        """
        program = shutil.which(path or "ffmpeg") or (None if path else _packaged_ffmpeg())
        if program is None:
            raise RuntimeError(
                f"reference Sync needs ffmpeg; {path or 'ffmpeg'} was not found: pip install imageio-ffmpeg, or use "
                "mode fast, whose values are not comparable with published ones"
            )
        listed = _run([program, "-hide_banner", "-encoders"]).stdout
        missing = [name for name in ENCODERS if f" {name} " not in listed]
        if missing:
            raise RuntimeError(
                f"reference Sync needs an ffmpeg with {', '.join(missing)}, which {program} lacks, and other codecs "
                "change the values; install a full build, or use mode fast"
            )
        version = _run([program, "-version"]).stdout.splitlines()[0]
        return cls(program, version)

    def __call__(self, *arguments: str | Path) -> None:
        """Runs ffmpeg with the given arguments; an error has the end of ffmpeg's output."""
        _run([self.path, "-y", "-v", "error", *map(str, arguments)])


@dataclass(frozen=True)
class ReferenceSteps:
    """Files of a video before face detection, in mode ``reference``.

    Attributes:
        work: Folder of the files.
        pictures: Frames at 25 fps as JPEG files.
        shots: (first frame, end) of each shot.
    """

    work: Path
    pictures: tuple[Path, ...]
    shots: tuple[tuple[int, int], ...]


def reference_tracks(
    video: Path, work: Path, detector: Detector, ffmpeg: FFmpeg, min_track: int = 50, min_face: float = 100.0
) -> list[TrackClip]:
    """Makes the tracks of a video in mode ``reference``, with the ffmpeg and OpenCV steps of syncnet_python.

    Args:
        video: Video file with sound, in any format of ffmpeg.
        work: Empty folder for the intermediate files, which are not deleted.
        detector: Function from B (H, W, 3) uint8 RGB frames to (K, >= 4) boxes of each in pixels; ``detect_faces_of``
            with S3FD for official values.
        ffmpeg: The ffmpeg program.
        min_track: Minimum number of detections of a track (exclusive). syncnet_python uses 100; 50 keeps MEAD's short
            clips.
        min_face: Minimum mean width or height of the face (exclusive), pixels.

    Raises:
        StepError: If an ffmpeg step fails, e.g. because the video has no sound.
        RuntimeError: If OpenCV is missing.
    """
    return tracks_of_steps(reference_steps(video, work, ffmpeg), detector, ffmpeg, min_track, min_face)


def reference_steps(video: Path, work: Path, ffmpeg: FFmpeg) -> ReferenceSteps:
    """Runs the steps of ``reference_tracks`` that need no network; arguments and errors as there."""
    avi, pictures = work / "video.avi", work / "frames"
    pictures.mkdir(parents=True)
    ffmpeg(*FFMPEG_INPUT, "-i", os.path.abspath(video), "-qscale:v", "2", "-async", "1", "-r", str(FPS), avi)
    ffmpeg("-i", avi, "-qscale:v", "2", "-threads", "1", "-f", "image2", pictures / "%06d.jpg")
    sound = ("-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", str(SAMPLE_RATE))
    ffmpeg("-i", avi, *sound, work / "audio.wav")
    # The AVI as OpenCV decodes it lacks the frames that ffmpeg duplicated. Its last shot therefore ends before the last
    # pictures, and their detections are not used, as in the original.
    return ReferenceSteps(work, tuple(sorted(pictures.glob("*.jpg"))), tuple(opencv_shots(avi)))


def tracks_of_steps(
    steps: ReferenceSteps, detector: Detector, ffmpeg: FFmpeg, min_track: int = 50, min_face: float = 100.0
) -> list[TrackClip]:
    """Runs the other steps of ``reference_tracks``; arguments and errors as there."""
    detections: list[np.ndarray] = []
    for first in range(0, len(steps.pictures), BATCH):
        detections += detector([_read_rgb(path) for path in steps.pictures[first : first + BATCH]])
    clips: list[TrackClip] = []
    for start, end in steps.shots:
        if end - start < min_track:
            continue
        for track in track_faces(detections[start:end], min_track, min_face, first=start):
            folder = steps.work / f"track{len(clips):05d}"
            folder.mkdir()
            _write_crop(steps.pictures, track, folder, ffmpeg, steps.work / "audio.wav")
            clips.append(read_crop(folder / "crop.avi", folder, ffmpeg, track))
    return clips


def opencv_shots(video: Path) -> list[tuple[int, int]]:
    """Finds the shots of a video as OpenCV decodes it: (first frame, end) of each, as ``find_shots``.

    Raises:
        RuntimeError: If OpenCV is missing.
    """
    cv2 = opencv()
    return find_shots(_decoded(video, cv2), lambda frame: cv2.cvtColor(frame, cv2.COLOR_BGR2HSV))


def read_crop(avi: Path, work: Path, ffmpeg: FFmpeg, track: Track) -> TrackClip:
    """Decodes a cropped file as run_syncnet does: to JPEGs with mjpeg's default rate control, and sound.

    The default target of 200 kbit/s reduces the quality within 15 frames, and published values include this effect.
    """
    pictures = work / "jpg"
    pictures.mkdir()
    ffmpeg("-i", avi, "-threads", "1", "-f", "image2", pictures / "%06d.jpg")
    sound = ("-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", str(SAMPLE_RATE))
    ffmpeg("-i", avi, "-async", "1", *sound, work / "sound.wav")
    frames = [_read_rgb(path)[:, :, ::-1].copy() for path in sorted(pictures.glob("*.jpg"))]
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return TrackClip(stacked, read_wav(work / "sound.wav"), track, "reference")


def read_wav(path: Path) -> np.ndarray:
    """Reads a mono 16-bit file at 16 kHz as (S,) int16.

    Raises:
        ValueError: If the format differs.
    """
    with wave.open(str(path)) as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if form != (1, 2, SAMPLE_RATE):
            raise ValueError(f"{path}: found channels, bytes and rate {form}, expected (1, 2, {SAMPLE_RATE})")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def _write_crop(paths: Sequence[Path], track: Track, folder: Path, ffmpeg: FFmpeg, audio: Path) -> None:
    cv2 = opencv()
    silent = folder / "silent.avi"
    writer = cv2.VideoWriter(str(silent), cv2.VideoWriter_fourcc(*"XVID"), FPS, (CROP_SIZE, CROP_SIZE))
    if not writer.isOpened():
        raise RuntimeError("this OpenCV cannot write XVID video, which reference Sync needs; use mode fast")
    for crop in _crops((_read_rgb(paths[i])[:, :, ::-1] for i in track.frames), track.boxes):
        writer.write(cv2.resize(crop, (CROP_SIZE, CROP_SIZE)))
    writer.release()
    start, end = track.frames[0] / FPS, (track.frames[-1] + 1) / FPS
    ffmpeg("-i", audio, "-ss", f"{start:.3f}", "-to", f"{end:.3f}", folder / "cut.wav")
    ffmpeg("-i", silent, "-i", folder / "cut.wav", "-c:v", "copy", "-c:a", "copy", folder / "crop.avi")


def _decoded(video: Path, cv2: ModuleType) -> Iterator[np.ndarray]:
    """Yields the (H, W, 3) uint8 BGR frames that OpenCV decodes."""
    capture = cv2.VideoCapture(str(video))
    try:
        while (read := capture.read())[0]:
            yield read[1]
    finally:
        capture.release()


def _crops(frames: Iterable[np.ndarray], boxes: np.ndarray) -> Iterator[np.ndarray]:
    path = crop_path(boxes)
    for frame, x, y, half in zip(frames, path.x, path.y, path.half, strict=True):
        yield np.ascontiguousarray(crop_face(frame, x, y, half))


def _resize_linear(image: Tensor) -> Tensor:
    """Resizes (H, W, 3) uint8 to (3, 224, 224) uint8, bilinear without antialiasing."""
    planes = image.permute(2, 0, 1)[None].float()
    resized = F.interpolate(planes, size=(CROP_SIZE, CROP_SIZE), mode="bilinear", align_corners=False)
    return resized[0].round().to(torch.uint8)


def _read_rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _packaged_ffmpeg() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def opencv() -> ModuleType:
    """Imports OpenCV, which writes the crops of mode ``reference``.

    Raises:
        RuntimeError: If it is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise RuntimeError(
            f"reference Sync writes its crops with OpenCV ({error}): pip install opencv-python-headless, or use mode "
            "fast"
        ) from None
    return cv2


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done
