"""Files beside a clip that belong to its frames: landmarks as OpenFace writes them, a synthetic speaker's true factors.

Whoever cuts a video cuts them with it. Shapes: F frames at 25 fps, K factors.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoders.protocols import FPS
from preparation.synthetic.write import factors_path, landmarks_path
from runtime.files import write_whole

NEAR = 0.25 / FPS  # seconds by which a printed time may differ from the frame's


def carry(source: Path, target: Path, first: int = 0, frames: int | None = None) -> None:
    """Copies what lies beside a video to what lies beside its copy, a part of it, or a picture of it.

    Args:
        source: the video.
        target: its copy; files of another clip that lie beside it are removed.
        first: first frame of the part.
        frames: how many, or None for all that are left.
    """
    for sidecar_path, copy in ((landmarks_path, _cut_landmarks), (factors_path, _cut_factors)):
        old, new = sidecar_path(source), sidecar_path(target)
        if not old.is_file():
            new.unlink(missing_ok=True)
        elif first == 0 and frames is None:
            shutil.copyfile(old, new)
        else:
            copy(old, new, first, frames)


def hold(source: Path, target: Path, frames: int) -> None:
    """The landmarks of a video's first frame beside a video that shows it throughout."""
    found = landmarks_path(source)
    if not found.is_file():
        return
    head, rows = _landmarks(found)
    time, still = head.index("timestamp"), [row for row in rows if float(row[head.index("timestamp")]) <= NEAR]
    _write_landmarks(
        landmarks_path(target),
        head,
        [[*row[:time], f"{frame / FPS:.3f}", *row[time + 1 :]] for frame in range(frames) for row in still],
    )


def _cut_landmarks(old: Path, new: Path, first: int, frames: int | None) -> None:
    head, rows = _landmarks(old)
    time, begin = head.index("timestamp"), first / FPS
    end = float("inf") if frames is None else begin + frames / FPS
    kept = [row for row in rows if begin - NEAR <= float(row[time]) < end - NEAR]
    _write_landmarks(new, head, [[*row[:time], f"{float(row[time]) - begin:.3f}", *row[time + 1 :]] for row in kept])


def _cut_factors(old: Path, new: Path, first: int, frames: int | None) -> None:
    with np.load(old, allow_pickle=False) as stored:
        values, names = stored["values"], stored["names"]
    buffer = io.BytesIO()
    np.savez(buffer, values=values[first : None if frames is None else first + frames], names=names)
    write_whole(new, buffer.getvalue())


def _landmarks(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = csv.reader(file, skipinitialspace=True)
    return [name.strip() for name in head], [row for row in rows if row]


def _write_landmarks(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    write_whole(path, buffer.getvalue())
