"""Scans one clip: decodes its pictures once and returns a row for each shot.

    decode -> thumbnails -> cuts -> face track of each shot -> measures

Pictures wait for six frames until it is known whether they start a shot, so that the face tracker never follows a face
across a cut. Shapes: F frames at 25 fps.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from encoders.landmarks.face_landmarker import FaceLandmarkerError
from encoders.landmarks.sidecar import LandmarkFileError
from encoders.protocols import FPS, SAMPLE_RATE, Face, LandmarkDetector
from encoders.weight_files import WeightsError
from media import FrameReader, MediaError, NoSound, look_at, read_sound
from media.archives import hash_of
from media.limits import RECORDINGS
from media.source import identify
from preparation.clip_source import ClipSource, Reason, Rejected, media_problem
from preparation.scan.columns import SCHEMA
from preparation.scan.container import container_facts
from preparation.scan.faces import face_measures, face_sizes, jaw_opening, sharpness
from preparation.scan.identity import embedding_measures, people_of_clip
from preparation.scan.lip_sync import BLOCKS, lip_envelope, scored_span, syncnet_scores
from preparation.scan.networks import ScanNetworks
from preparation.scan.pictures import PictureSignals, borders, frozen_runs, perceptual_hash
from preparation.scan.shots import LOOKAHEAD, CutFinder, find_shots
from preparation.scan.speech import SoundSignals
from preparation.scan.strips import strip_path, write_strip

Row = dict[str, Any]
SHOT_NUMBER = "--s"  # separates the clip's key and the number of the shot


def scan_clip(
    clip: ClipSource, detector: LandmarkDetector, folder: Path | None = None, networks: ScanNetworks | None = None
) -> list[Row]:
    """Scans a clip. A clip that cannot be read gives one row with its ``problem``.

    Args:
        clip: Clip to scan.
        detector: Landmark detector; a MediaPipe detector that is ``solid`` also gives the pose.
        folder: Folder of the scan, where the strips of the shots are written; None for none.
        networks: Optional networks; None for none.

    Returns:
        Rows with every column of ``SCHEMA``; null where there is no measure.

    Raises:
        FaceLandmarkerError, WeightsError: If the detector cannot run, which would affect every clip.
        MemoryError: If there is not enough memory, which is no property of the clip.
    """
    try:
        if clip.problem is not None:
            raise Rejected(clip.problem, clip.problem_detail)
        return _ClipScan(clip, detector, folder, networks or ScanNetworks()).rows()
    except Rejected as rejected:
        return [problem_row(clip, rejected)]
    except MediaError as error:
        return [problem_row(clip, media_problem(clip, error))]
    except (FaceLandmarkerError, WeightsError, MemoryError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return [problem_row(clip, Rejected(Reason.ERROR, detail))]


def problem_row(clip: ClipSource, why: Rejected) -> Row:
    """Row of a clip that could not be scanned: its names and the problem."""
    return _complete(_names(clip) | {"problem": why.reason.value, "detail": why.detail, "shot": 0, "shots": 0})


class _ClipScan:
    """Everything that is measured of one clip."""

    def __init__(
        self, clip: ClipSource, detector: LandmarkDetector, folder: Path | None, networks: ScanNetworks
    ) -> None:
        self.clip = clip
        self.folder = folder
        self.networks = networks
        self.detector = detector
        self.signals = PictureSignals()
        self.faces: list[Face | None] = []
        self.several: list[float] = []

    def rows(self) -> list[Row]:
        clip = self.clip
        files = [identify(path) for path in (clip.path, clip.audio) if path is not None]
        # In a child process, so that a hostile file ends that one alone.
        seen, *_ = [look_at(path, limits=RECORDINGS) for path, *_ in files]
        end = clip.end_in(seen.duration)
        box = clip.crop_in(seen.width, seen.height)
        facts = container_facts(clip.path, clip.audio)
        hashes = {"sha256": hash_of(clip.path)}
        if clip.audio is not None:
            hashes["sound_sha256"] = hash_of(clip.audio)
        reader = FrameReader(clip.path, start=clip.start, end=end, fps=FPS)
        self._decode(reader)
        sound = self._sound()
        if [identify(path) for path, *_ in files] != files:
            raise Rejected(Reason.UNREADABLE, "the file changed while it was read; run the scan again")
        first, last = self._common_span(facts, sound)
        thumbnails = np.stack(self.signals.thumbnails)
        whole = find_shots(thumbnails, reader.keys)
        shots = [(max(start, first), min(end, last), score) for start, end, score in whole]
        shots = [shot for shot in shots if shot[0] < shot[1]]
        if not shots:
            detail = f"picture and sound have no time in common: frames {first} to {last} of {len(thumbnails)}"
            raise Rejected(Reason.AV_MISMATCH, detail)
        width, height = self.signals.size
        common = _names(clip) | facts | hashes | {"width": width, "height": height, "shots": len(shots)}
        common["box"] = None if box is None else " ".join(map(str, box))
        times = np.array(reader.times)
        rows = [self._shot(number, shot, thumbnails, times, sound) for number, shot in enumerate(shots)]
        for row, person in zip(rows, people_of_clip(rows), strict=True):
            row["clip_person"] = person
        return [_complete(common | row) for row in rows]

    def _decode(self, reader: FrameReader) -> None:
        frames = _ShotFrames(reader, self.signals, self.clip)
        while not frames.ended:
            start = self.clip.start + len(self.faces) / FPS
            try:
                tracking = self.detector.track(frames.shot(), self.clip.path, start)
            except LandmarkFileError as error:
                raise Rejected(Reason.NO_LANDMARKS, str(error)) from error
            self.faces += tracking.faces
            self.several += [tracking.several] * len(tracking.faces)

    def _sound(self) -> SoundSignals | None:
        clip = self.clip
        try:
            samples = read_sound(clip.audio or clip.path, start=clip.start, end=clip.end, rate=SAMPLE_RATE)
        except NoSound:
            return None
        return SoundSignals.of(samples)

    def _common_span(self, facts: dict[str, Any], sound: SoundSignals | None) -> tuple[int, int]:
        """Frames of the clip in which both tracks have started and neither has ended."""
        late = max(facts["late_picture"], facts["late_sound"]) - self.clip.start
        first = max(0, math.ceil(late * FPS - 1e-3))
        last = len(self.faces)
        if sound is not None:  # half a frame is rounding
            last = min(last, math.floor(len(sound.samples) * FPS / SAMPLE_RATE + 0.5))
        return first, last

    def _shot(
        self,
        number: int,
        shot: tuple[int, int, float],
        thumbnails: np.ndarray,
        times: np.ndarray,
        sound: SoundSignals | None,
    ) -> Row:
        start, end, score = shot
        clip, scheme = self.clip, self.detector.scheme
        faces = self.faces[start:end]
        frozen, share = frozen_runs(thumbnails[start:end], times[start:end])
        row: Row = {
            "key": f"{clip.key}{SHOT_NUMBER}{number:03d}",
            "shot": number,
            "first_frame": start,
            "frames": end - start,
            "start": clip.start + start / FPS,
            "end": clip.start + end / FPS,
            "cut_score": score,
            "frozen_frames": frozen,
            "frozen_share": share,
            "several": float(np.mean(self.several[start:end])),
            "phash": perceptual_hash(thumbnails[(start + end) // 2]),
        }
        row |= face_measures(faces, scheme, self.signals.size)
        row |= self._kept_measures(start, end)
        if sound is not None:
            row |= sound.measures(start / FPS, end / FPS)
            agreement = lip_envelope(jaw_opening(faces, scheme), sound.level[start * BLOCKS : end * BLOCKS])
            if agreement is not None:
                row |= {"lip_envelope_r": agreement[0], "lip_envelope_offset": agreement[1]}
            row |= self._sync_measures(start, faces, sound)
        if self.folder is not None:
            level = np.zeros(0) if sound is None else sound.level[start * BLOCKS : end * BLOCKS]
            lines = {"face": face_sizes(faces, scheme), "jaw": jaw_opening(faces, scheme), "level": level}
            pictures = [picture for frame, picture in self.signals.kept.items() if start <= frame < end]
            write_strip(strip_path(self.folder, row["key"]), pictures, lines)
        return row

    def _sync_measures(self, start: int, faces: list[Face | None], sound: SoundSignals) -> Row:
        """SyncNet's scores, for which the shot is decoded again."""
        network, span = self.networks.syncnet, scored_span(faces)
        if network is None or span is None:
            return {}
        first, last = start + span[0], start + span[1]
        begin, end = (self.clip.start + frame / FPS for frame in (first, last))
        reader = FrameReader(self.clip.path, start=begin, end=end, fps=FPS)
        pictures = (_annotated(frame, self.clip) for frame in reader)
        samples = sound.samples[first * SAMPLE_RATE // FPS : last * SAMPLE_RATE // FPS]
        scores = syncnet_scores(pictures, faces[slice(*span)], self.detector.scheme, samples, network)
        return {} if scores is None else {"syncnet_confidence": scores[0], "syncnet_offset": scores[1]}

    def _kept_measures(self, start: int, end: int) -> Row:
        """Borders, sharpness and the vector of the face, from the pictures of the shot that were kept."""
        kept = {frame: picture for frame, picture in self.signals.kept.items() if start <= frame < end}
        if not kept:
            return {}
        left, top, right, bottom = borders(list(kept.values()))
        width, height = self.signals.size
        row: Row = {
            "border": 1 - (width - left - right) * (height - top - bottom) / (width * height),
            "border_left": left,
            "border_top": top,
            "border_right": right,
            "border_bottom": bottom,
        }
        if self.networks.arcface is not None:
            faces = {frame: face for frame in kept if (face := self.faces[frame]) is not None}
            row |= embedding_measures(kept, faces, self.detector.scheme, self.networks.arcface)
        found = [
            sharp
            for frame, picture in kept.items()
            if (face := self.faces[frame]) is not None
            and (sharp := sharpness(picture, face, self.detector.scheme)) is not None
        ]
        if found:
            blur, laplacian = np.median(found, axis=0)
            row |= {"blur": float(blur), "sharpness": float(laplacian)}
        return row


class _ShotFrames:
    """Decoded frames, handed out shot by shot and measured on the way.

    Attributes:
        ended: Whether every frame was handed out.
    """

    def __init__(self, reader: FrameReader, signals: PictureSignals, clip: ClipSource) -> None:
        self._reader = reader
        self._frames = iter(reader)
        self._signals = signals
        self._clip = clip
        self._finder = CutFinder()
        self._waiting: deque[np.ndarray] = deque()
        self._next = 0  # index of the first waiting frame
        self.ended = False
        self._fill()

    def shot(self) -> Iterator[np.ndarray]:
        """Yields the frames up to the next hard cut, cut to the annotated crop where there is one."""
        begin = self._next
        while self._waiting:
            if self._next > begin and self._finder.score(self._next):
                return
            frame = self._waiting.popleft()
            self._next += 1
            self._fill()
            yield frame
        self.ended = True

    def _fill(self) -> None:
        while len(self._waiting) <= LOOKAHEAD:
            frame = next(self._frames, None)
            if frame is None:
                break
            frame = _annotated(frame, self._clip)
            self._signals.add(frame)
            self._finder.add(self._signals.thumbnails[-1], self._reader.keys[-1])
            self._waiting.append(frame)
        self.ended = not self._waiting


def _annotated(frame: np.ndarray, clip: ClipSource) -> np.ndarray:
    """The annotated crop of a frame, or the frame."""
    if not (box := clip.crop_in(frame.shape[1], frame.shape[0])):
        return frame
    left, top, width, height = box
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def _names(clip: ClipSource) -> Row:
    return {
        "key": clip.key,
        "clip": clip.key,
        "source": clip.name,
        "path": str(clip.path).encode("utf-8", "backslashreplace").decode(),
        "sound": None if clip.audio is None else str(clip.audio).encode("utf-8", "backslashreplace").decode(),
        "speaker": clip.speaker,
        "split": clip.split,
        "emotion": clip.emotion,
        "level": clip.level,
        "view": clip.view,
    }


def _complete(row: Row) -> Row:
    """Adds nulls for missing columns, and rounds so that rows have the same bytes on every machine."""
    unknown = row.keys() - set(SCHEMA.names)
    assert not unknown, f"columns without a declaration: {sorted(unknown)}"
    return {name: _plain(row.get(name)) for name in SCHEMA.names}


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 5) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
