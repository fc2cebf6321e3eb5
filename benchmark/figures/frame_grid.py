"""Reads frames of videos and draws them as grids: row names on the left, times on top, reasons in empty tiles.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from media import FrameReader, MediaError, probe, read_picture
from runtime.errors import UserError

FPS = 25.0
TILE = 192  # pixels
LABEL = 150
HEAD = 26
GAP = 4
INK, PAPER, MISSING = (28, 28, 30), (255, 255, 255), (229, 229, 234)


@dataclass(frozen=True)
class GridRow:
    """One row of a grid.

    Attributes:
        name: Text on the left.
        tiles: (H, W, 3) uint8 images; a text is shown as the reason for a missing image, an empty text as white.
        remark: Second line below the name.
    """

    name: str
    tiles: tuple[np.ndarray | str, ...]
    remark: str = ""


def pick_times(seconds: float, count: int) -> list[float]:
    """Returns the centres of ``count`` equal parts of a video in seconds, rounded to frames."""
    return [round((place + 0.5) * seconds / count * FPS) / FPS for place in range(count)]


def frames_at(video: Path, times: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Returns the (H, W, 3) uint8 frames of a video nearest to the given times.

    Args:
        video: Video file.
        times: Ascending times in seconds.

    Raises:
        UserError: If the video cannot be read or is too short.
    """
    wanted = [round(time * FPS) for time in times]
    found = []
    try:
        reader = FrameReader(video, fps=FPS)
        if len(reader) <= wanted[-1]:
            raise UserError(f"{video}: has {len(reader)} frames at {FPS:g} fps, needs {wanted[-1] + 1}")
        for index, frame in enumerate(reader):
            found += [frame] * wanted.count(index)
            if index >= wanted[-1]:
                break
    except (MediaError, OSError) as error:
        raise UserError(str(error)) from error
    return tuple(found)


def length_of(video: Path) -> float:
    """Returns the duration of a video's pictures in seconds.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return probe(video).duration
    except (MediaError, OSError) as error:
        raise UserError(str(error)) from error


def read_still(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a portrait in the frame size of a video, (H, W, 3) uint8.

    Args:
        path: Image, or a video whose first frame is used.
        size: (width, height) of the result; the aspect ratio must be the image's.

    Raises:
        UserError: If the file cannot be read or has another aspect ratio.
    """
    try:
        picture = Image.fromarray(read_picture(path))
    except MediaError:
        picture = Image.fromarray(frames_at(path, [0.0])[0])
    if abs(picture.width / picture.height - size[0] / size[1]) > 0.01:
        raise UserError(
            f"{path}: is {picture.width} x {picture.height}, the videos are {size[0]} x {size[1]} pixels: they do not "
            "show the same part of the picture; give the portrait as it was cropped for them"
        )
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def draw_grid(rows: Sequence[GridRow], heads: Sequence[str]) -> Image.Image:
    """Draws a grid of images.

    Args:
        rows: Rows; each has as many tiles as there are column heads.
        heads: Column heads.
    """
    width, height = LABEL + len(heads) * (TILE + GAP), HEAD + len(rows) * (TILE + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        pen.text((LABEL + column * (TILE + GAP) + TILE / 2, HEAD / 2), head, INK, ImageFont.load_default(14), "mm")
    for line, row in enumerate(rows):
        top = HEAD + line * (TILE + GAP)
        lines = [*_wrapped(row.name, 17), *_wrapped(row.remark, 19)]
        for place, text in enumerate(lines):
            size = 15 if place < len(_wrapped(row.name, 17)) else 12
            at = (8, top + TILE / 2 + 20 * (place - (len(lines) - 1) / 2))
            pen.text(at, text, INK, ImageFont.load_default(size), "lm")
        for column, tile in enumerate(row.tiles):
            sheet.paste(_tile(tile), (LABEL + column * (TILE + GAP), top))
    return sheet


def _tile(content: np.ndarray | str) -> Image.Image:
    if not isinstance(content, str):
        picture = Image.fromarray(content)
        return ImageOps.pad(picture, (TILE, TILE), Image.Resampling.LANCZOS, color=PAPER)
    tile = Image.new("RGB", (TILE, TILE), MISSING if content else PAPER)
    text = "\n".join(_wrapped(content, 26)[:10])
    ImageDraw.Draw(tile).multiline_text(
        (TILE / 2, TILE / 2), text, INK, ImageFont.load_default(12), "mm", align="center"
    )
    return tile


def _wrapped(text: str, width: int) -> list[str]:
    """Splits a text into lines of at most ``width`` characters. Longer words, such as paths, are cut."""
    lines: list[str] = []
    for word in text.split():
        for piece in (word[start : start + width] for start in range(0, len(word), width)):
            if lines and len(lines[-1]) + 1 + len(piece) <= width:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
    return lines
