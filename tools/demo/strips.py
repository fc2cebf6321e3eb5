"""Pictures for the page: strips of video frames, and heat maps of Figures 3 and 4.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.figures.frame_grid import FPS, frames_at, length_of, pick_times
from benchmark.figures.heatmaps import difference, heat, motion
from media import FrameReader, MediaError, read_picture
from preparation.speaker_crop import crop_frames
from runtime.errors import UserError

COLUMNS = 8
WIDEST = 900  # pixels of a picture on the page
MIMES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class HeatRows:
    """Frames of one video and their heat maps.

    Attributes:
        frames: Frames side by side, as a data URL.
        maps: Heat maps side by side, as a data URL.
        mean: Mean value of the maps, grey levels.
    """

    frames: str
    maps: str
    mean: float


def embedded(path: Path) -> str:
    """Returns a file as a data URL."""
    return f"data:{MIMES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def picture(pixels: np.ndarray, sharp: bool = False) -> str:
    """Returns a (H, W, 3) uint8 image as a data URL; ``sharp`` selects PNG, for drawings that JPEG would blur."""
    image = Image.fromarray(pixels)
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True) if sharp else image.save(buffer, "JPEG", quality=88)
    kind = "png" if sharp else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def file_picture(path: Path) -> str:
    """Returns an image file as a data URL, no wider than the page."""
    return picture(np.asarray(Image.open(path).convert("RGB")), sharp=True)


def top_of(path: Path, height: int) -> str:
    """Returns the top rows of a tall image file as a data URL."""
    return picture(np.asarray(Image.open(path).convert("RGB"))[:height])


def strip(video: Path, count: int = COLUMNS) -> str:
    """Returns evenly spaced frames of a video side by side."""
    return picture(_row(frames_at(video, pick_times(length_of(video), count))))


def still_of(video: Path) -> str:
    """Returns the middle frame of a video, shown before it plays."""
    return picture(frames_at(video, pick_times(length_of(video), 1))[0])


def likeness(made: Path, true: Path) -> float:
    """PSNR of the frames of a generated video, dB; those of the true one are brought to their size.

    Raises:
        UserError: If a video cannot be read.
    """
    errors = []
    try:
        for ours, theirs in zip(FrameReader(made, fps=FPS), FrameReader(true, fps=FPS), strict=False):
            resized = Image.fromarray(theirs).resize(ours.shape[1::-1], Image.Resampling.BOX)
            errors.append(np.mean((ours.astype(np.float64) - np.asarray(resized)) ** 2))
    except (MediaError, OSError) as error:
        raise UserError(str(error)) from error
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-10)))


def decoupling_rows(portrait: Path, lips: Path, expression: Path, count: int = 6) -> tuple[HeatRows, HeatRows]:
    """Figure 3: changes of a portrait by lips only and by expression only, on one scale.

    Args:
        portrait: Input of generate.py; it is cropped as stated in the video's record.
        lips: Video generated with ``drive=lips``.
        expression: Video generated with ``drive=expression``.
        count: Number of frames of each.
    """
    times = pick_times(min(length_of(lips), length_of(expression)), count)
    shown = [frames_at(video, times) for video in (lips, expression)]
    record = json.loads(lips.with_suffix(".json").read_text(encoding="utf-8"))
    left, top, side = record["portrait"]["crop"]
    still = next(crop_frames([read_picture(portrait)], (left, top, side), shown[0][0].shape[1]))
    maps = [[difference(frame, still) for frame in frames] for frames in shown]
    scale = float(np.percentile(np.stack([*maps[0], *maps[1]]), 99.5))
    first, second = (
        HeatRows(picture(_row(frames)), picture(_row([heat(one, scale) for one in found])), float(np.mean(found)))
        for frames, found in zip(shown, maps, strict=True)
    )
    return first, second


def motion_rows(moving: Path, held: Path, count: int = 5) -> tuple[HeatRows, HeatRows]:
    """Figure 4: frames, and the motion of every pixel over time, on one scale."""
    fields = [motion(video) for video in (moving, held)]
    scale = max(float(np.percentile(field, 99.5)) for field, _ in fields)
    first, second = (
        HeatRows(
            picture(_row(frames_at(video, pick_times(length_of(video), count)))), picture(heat(field, scale)), mean
        )
        for video, (field, mean) in zip((moving, held), fields, strict=True)
    )
    return first, second


def _row(frames: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(frames), axis=1)
