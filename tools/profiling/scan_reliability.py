"""Measures on real videos how well a scan tells people apart, and whether lips and sound agree.

    python -m tools.profiling.scan_reliability list=CLIPS.csv source=VIDEOS

``list`` is a list of clips as of dataset=manifest with a speaker for each. The tables are Markdown.

Identity: each video is halved. Halves of one video, halves of two videos of one person, and halves of videos of two
people are compared, by the shape of the face and, where its weights are there, by ArcFace.

Lips and sound: the correlation of jaw and speech envelope for the own sound and for that of another person, and the lag
that is found when the own sound is moved by -5 to 5 frames.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from configs.options import read_options, run_script
from configs.preparation import DatasetConfig
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.protocols import FPS, SAMPLE_RATE, Face
from media import FrameReader, NoSound, read_sound
from metrics.functional.face_identity import SAME_PERSON
from preparation.clip_source import ClipSource
from preparation.layouts import find_clips
from preparation.scan.faces import jaw_opening
from preparation.scan.identity import SAME_SHAPE, embedding_measures, identity_shape, shape_distance
from preparation.scan.lip_sync import BLOCKS, MAX_LAG, lip_envelope
from preparation.scan.networks import ScanNetworks
from preparation.scan.pictures import SAMPLED_EVERY
from preparation.scan.speech import SoundSignals

KINDS = ("halves of one video", "two videos of one person", "two people")


@dataclass
class _Measured:
    """Halves of one video, and its lips and sound."""

    clip: ClipSource
    shapes: list[list[float]] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    jaw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    level: np.ndarray | None = None


def main(arguments: list[str]) -> None:
    """Prints the tables."""
    options = read_options(__doc__, arguments, {"list": Path, "source": Path}, required=("list", "source"))
    torch.set_num_threads(1)
    settings = DatasetConfig(name="manifest", list_file=str(options["list"]))
    clips = [clip for clip in find_clips(settings, options["source"]).clips if clip.problem is None]
    networks, detector = ScanNetworks.load(["arcface"]), MediaPipeDetector(solid=True)
    measured = [_measure(clip, detector, networks) for clip in clips]
    print(f"{len(measured)} videos of {len({one.clip.speaker for one in measured})} people\n")
    _identity(measured)
    _agreement([one for one in measured if one.level is not None])


def _measure(clip: ClipSource, detector: MediaPipeDetector, networks: ScanNetworks) -> _Measured:
    found = _Measured(clip)
    pictures: dict[int, np.ndarray] = {}

    def kept() -> Iterator[np.ndarray]:
        for index, frame in enumerate(FrameReader(clip.path, start=clip.start, end=clip.end, fps=FPS)):
            if index % SAMPLED_EVERY == 0 and networks.arcface is not None:
                pictures[index] = frame
            yield frame

    faces = detector.track(kept(), clip.path, clip.start).faces
    for first, last in ((0, len(faces) // 2), (len(faces) // 2, len(faces))):
        seen: dict[int, Face] = {place: face for place in range(first, last) if (face := faces[place]) is not None}
        if seen:
            found.shapes.append(identity_shape(list(seen.values()), detector.scheme))
        if networks.arcface is not None:
            row = embedding_measures(pictures, seen, detector.scheme, networks.arcface)
            found.vectors += [np.array(row["embedding"])] if row else []
    found.jaw = jaw_opening(faces, detector.scheme)
    try:
        samples = read_sound(clip.audio or clip.path, start=clip.start, end=clip.end, rate=SAMPLE_RATE)
        found.level = SoundSignals.of(samples).level
    except NoSound:
        pass
    return found


def _identity(measured: list[_Measured]) -> None:
    """Prints how well people are distinguished."""
    print("| identity by | pairs | number | quartiles | taken for one person | ROC area against two people |")
    print("|---|---|---|---|---|---|")
    for name, of, distance, limit in (
        ("shape", lambda one: one.shapes, shape_distance, SAME_SHAPE),
        ("ArcFace", lambda one: one.vectors, lambda a, b: 1 - float(a @ b), 1 - SAME_PERSON),
    ):
        values: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for one in measured:
            values[KINDS[0]] += [distance(*of(one))] if len(of(one)) == 2 else []
        for a, b in combinations(measured, 2):
            kind = KINDS[1] if a.clip.speaker == b.clip.speaker else KINDS[2]
            values[kind] += [distance(x, y) for x in of(a) for y in of(b)]
        others = np.array(values[KINDS[2]])
        for kind in KINDS:
            found = np.array(values[kind])
            if not len(found):
                continue
            low, middle, high = np.percentile(found, [25, 50, 75])
            area = float((found[:, None] < others).mean() + (found[:, None] == others).mean() / 2)
            quartiles, taken = f"{low:.3f}, {middle:.3f}, {high:.3f}", f"{(found < limit).mean():.0%}"
            area_text = "" if kind == KINDS[2] else f"{area:.3f}"
            print(f"| {name} | {kind} | {len(found)} | {quartiles} | {taken} | {area_text} |")


def _agreement(measured: list[_Measured]) -> None:
    """Prints the correlation of lips and sound, and the lags that are found."""
    own, other, lags = [], [], []
    for one in measured:
        assert one.level is not None
        if (found := lip_envelope(one.jaw, one.level)) is None:
            continue
        own.append((one.clip.name, *found))
        other += [
            wrong[0]
            for stranger in measured
            if stranger.clip.speaker != one.clip.speaker
            and stranger.level is not None
            and (wrong := lip_envelope(one.jaw, stranger.level)) is not None
        ]
        for lag in range(-MAX_LAG, MAX_LAG + 1):
            jaw, level = one.jaw[max(0, -lag) :], one.level[max(0, lag) * BLOCKS :]
            if (moved := lip_envelope(jaw, level)) is not None:
                lags.append((moved[0], moved[1] + lag - found[1], abs(moved[1]) == MAX_LAG))
    print("\n| video | lip_envelope_r | lip_envelope_offset |\n|---|---|---|")
    for name, r, lag in own:
        print(f"| {name} | {r:.2f} | {lag:+d} |")
    if other:
        print(
            f"\nsound of others, {len(other)} pairs: r {np.median(other):.2f} in the median, {max(other):.2f} at most"
        )
    for limit in (0.0, 0.3, 0.4, 0.45, 0.5):
        chosen = [abs(error) for r, error, _ in lags if r >= limit]
        if chosen:
            right = np.mean([error <= 1 for error in chosen])
            print(f"sound moved by -5 to 5 frames, r >= {limit}: {len(chosen)} cases, {right:.0%} within a frame")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
