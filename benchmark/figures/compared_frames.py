"""Figures 5 and 6: one case across systems, frames at equal times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from benchmark.figures.frame_grid import GridRow, draw_grid, frames_at, length_of, pick_times
from evaluation.pairs import EvaluationError, find_videos
from runtime.errors import UserError

COLUMNS = 6


def case_grid(
    clip: str, systems: Mapping[str, Path], driving: Path | None = None, columns: int = COLUMNS
) -> Image.Image:
    """Rows of systems, columns of times; a system without the clip keeps its row and says why it is empty.

    Args:
        clip: name of the case: of the videos, without ending.
        systems: name -> folder of its videos, or one video.
        driving: the video whose emotion is taken over (Figure 6), shown first.
        columns: times shown.

    Raises:
        UserError: if no system has the clip.
    """
    videos: dict[str, Path | str] = {name: _video(clip, place) for name, place in systems.items()}
    there = [video for video in videos.values() if isinstance(video, Path)]
    if not there:
        raise UserError(f"clip={clip}: no system has it: " + "; ".join(f"{n}: {why}" for n, why in videos.items()))
    times = pick_times(min(length_of(video) for video in there), columns)
    rows = [] if driving is None else [_row("driving video", driving, pick_times(length_of(driving), columns))]
    rows += [_row(name, video, times) for name, video in videos.items()]
    return draw_grid(rows, [f"{time:.2f} s" for time in times])


def _video(clip: str, place: Path) -> Path | str:
    """A system's video of a clip, or why there is none."""
    if place.is_file():
        return place
    try:
        found = find_videos(place)
    except EvaluationError as error:
        return str(error)
    paths = found.get(clip, [])
    if len(paths) != 1:
        return f"{len(paths)} videos named {clip}"
    return paths[0]


def _row(name: str, video: Path | str, times: list[float]) -> GridRow:
    if isinstance(video, str):
        return GridRow(name, (video,) * len(times))
    try:
        return GridRow(name, frames_at(video, times))
    except UserError as error:
        return GridRow(name, (str(error),) * len(times))
