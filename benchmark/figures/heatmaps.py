"""Figures 3 and 4: heat maps of what lips and expression change, and of motion with and without Di-CTE."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from benchmark.figures.frame_grid import FPS, GridRow, draw_grid, frames_at, length_of, pick_times, read_still
from media import FrameReader, MediaError
from runtime.errors import UserError

COLUMNS = 5
BLOCK = 8  # pixels; differences are averaged over such blocks to suppress noise


def difference(frame: np.ndarray, portrait: np.ndarray) -> np.ndarray:
    """Mean absolute colour difference, (H, W) float grey levels, averaged over 8 x 8 pixels."""
    raw = np.abs(frame.astype(np.float32) - portrait.astype(np.float32)).mean(axis=2)
    height, width = raw.shape
    small = Image.fromarray(raw).resize((max(1, width // BLOCK), max(1, height // BLOCK)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def heat(values: np.ndarray, top: float) -> np.ndarray:
    """Colours (H, W) values in [0, top] as (H, W, 3) uint8."""
    colours = matplotlib.colormaps["inferno"](np.clip(values / max(top, 1e-6), 0, 1))
    return (colours[..., :3] * 255).round().astype(np.uint8)


def figure3(portrait: Path, lips: Path, expression: Path, columns: int = COLUMNS) -> Image.Image:
    """Draws frames driven by lips only and by expression only, and their differences from the portrait.

    All heat maps share one scale and can be compared.

    Args:
        portrait: Reference portrait as it was cropped, or a video that begins with it.
        lips: Video generated with ``drive=lips``.
        expression: Video generated with ``drive=expression``.
        columns: Number of times.

    Raises:
        UserError: If a file cannot be read, or the videos have different sizes.
    """
    times = pick_times(min(length_of(lips), length_of(expression)), columns)
    shown = {"lip-driven": frames_at(lips, times), "expression-driven": frames_at(expression, times)}
    sizes = {frames[0].shape[1::-1] for frames in shown.values()}
    if len(sizes) > 1:
        raise UserError(f"{lips} and {expression} have different sizes: {sizes}; generate both with the same run")
    still = read_still(portrait, sizes.pop())
    maps = {name: [difference(frame, still) for frame in frames] for name, frames in shown.items()}
    top = float(np.percentile(np.concatenate([np.stack(found).ravel() for found in maps.values()]), 99.5))
    rows = [GridRow("portrait", (still, *[""] * (columns - 1)))]
    for name, frames in shown.items():
        mean = float(np.mean(maps[name]))
        rows.append(GridRow(name, frames))
        rows.append(
            GridRow("difference", tuple(heat(found, top) for found in maps[name]), f"mean {mean:.2f} of {top:.0f}")
        )
    return draw_grid(rows, [f"{time:.2f} s" for time in times])


def motion(video: Path) -> tuple[np.ndarray, float]:
    """Motion of a video: the standard deviation of each pixel over all frames.

    Returns:
        (H, W) float32 grey levels, and their mean.

    Raises:
        UserError: If the video cannot be read.
    """
    total, squares, count = np.zeros(0), np.zeros(0), 0
    try:
        for frame in FrameReader(video, fps=FPS):
            grey = frame.astype(np.float64).mean(axis=2)
            total, squares, count = (grey, grey**2, 1) if not count else (total + grey, squares + grey**2, count + 1)
    except (MediaError, OSError) as error:
        raise UserError(str(error)) from error
    deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)).astype(np.float32)
    return deviation, float(deviation.mean())


def figure4(with_dicte: Path, without_dicte: Path, columns: int = COLUMNS) -> Image.Image:
    """Draws frames with and without Di-CTE from one expression image, and the motion of both videos.

    Raises:
        UserError: If a video cannot be read.
    """
    videos = {"w/ Di-CTE": with_dicte, "w/o Di-CTE": without_dicte}
    times = pick_times(min(length_of(video) for video in videos.values()), columns)
    found = {name: motion(video) for name, video in videos.items()}
    top = max(float(np.percentile(field, 99.5)) for field, _ in found.values())
    rows = [
        GridRow(name, (*frames_at(video, times), heat(found[name][0], top)), f"moves by {found[name][1]:.2f} levels")
        for name, video in videos.items()
    ]
    return draw_grid(rows, [*(f"{time:.2f} s" for time in times), "motion in time"])
