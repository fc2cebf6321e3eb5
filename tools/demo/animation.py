"""Animated picture of a demonstration: true videos of one held-out speaker above the generated ones.

    python -m tools.demo.animation FOLDER output=FILE.webp

FOLDER holds ``cases/`` (``tools.demo.demo_inputs``) and ``videos/`` (``generate.py batch=FOLDER/cases/batch.csv``), as
``make demo`` leaves them in ``demo/``. The data must name emotions. The picture has no sound.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmark.figures.frame_grid import FPS, INK, PAPER
from configs.options import Readers, path, read_options, run_script
from media import FrameReader
from runtime.errors import UserError
from runtime.files import write_whole
from tools.demo.material import read_json

TILE, HEAD, GAP = 176, 26, 6  # pixels
QUALITY = 45  # of WebP


def frames_of(video: Path) -> list[Image.Image]:
    """All frames at 25 fps, in the size of a tile.

    Raises:
        MediaError: if the video cannot be read.
    """
    return [_tile(Image.fromarray(frame)) for frame in FrameReader(video, fps=FPS)]


def build_frames(folder: Path) -> list[Image.Image]:
    """Frames of the animation: the portrait, then one column for each emotion, true above generated.

    Raises:
        UserError: if the folder holds no videos made from emotion labels.
        MediaError: if a video cannot be read.
    """
    content: Mapping[str, Any] = read_json(folder / "cases" / "cases.json") or {"asked": []}
    labelled = [case for case in content["asked"] if case["name"].startswith("emotions/")]
    if not labelled:
        raise UserError(f"{folder / 'cases'}: holds no case with an emotion label; run make demo first")
    cases = [case for case in labelled if case["speaker"] == labelled[0]["speaker"]]
    true = [frames_of(folder / "cases" / case["true"]) for case in cases]
    generated = [frames_of(folder / "videos" / case["row"]["output"]) for case in cases]
    with Image.open(folder / "cases" / cases[0]["row"]["portrait"]) as opened:
        portrait = _tile(opened.convert("RGB"))
    emotions = [case["row"]["emotion.label"] for case in cases]
    count = min(len(frames) for frames in (*true, *generated))
    rows = (("true", true), ("generated", generated))
    return [
        _sheet(portrait, [([f"{name}, {emotion}" for emotion in emotions], [video[place] for video in videos])
                          for name, videos in rows])
        for place in range(count)
    ]  # fmt: skip


def _sheet(portrait: Image.Image, rows: Sequence[tuple[list[str], list[Image.Image]]]) -> Image.Image:
    columns = 1 + len(rows[0][1])
    height = len(rows) * (HEAD + TILE)
    sheet = Image.new("RGB", (columns * (TILE + GAP) - GAP, height), PAPER)
    pen = ImageDraw.ImageDraw(sheet)

    def place(tile: Image.Image, name: str, column: int, top: int) -> None:
        left = column * (TILE + GAP)
        pen.text((left + TILE / 2, top + HEAD / 2), name, INK, ImageFont.load_default(16), "mm")
        sheet.paste(tile, (left, top + HEAD))

    place(portrait, "portrait (input)", 0, (height - HEAD - TILE) // 2)
    for line, (names, tiles) in enumerate(rows):
        for column, (name, tile) in enumerate(zip(names, tiles, strict=True), 1):
            place(tile, name, column, line * (HEAD + TILE))
    return sheet


def _tile(picture: Image.Image) -> Image.Image:
    return picture.resize((TILE, TILE), Image.Resampling.BICUBIC)


def write_animation(frames: Sequence[Image.Image], output: Path) -> None:
    """Writes an endless animated WebP at 25 fps."""
    buffer = io.BytesIO()
    first, *rest = frames
    first.save(
        buffer, "WEBP", save_all=True, append_images=rest, duration=round(1000 / FPS), loop=0, quality=QUALITY, method=6
    )
    write_whole(output, buffer.getvalue())


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and writes the animation.

    Raises:
        UserError: if there is nothing to show.
        MediaError: if a video cannot be read.
    """
    known: Readers = {"output": path}
    options = read_options(__doc__, arguments, known, places=("folder",), required=("output",))
    frames = build_frames(Path(options["folder"]))
    write_animation(frames, options["output"])
    size = options["output"].stat().st_size
    print(f"{options['output']}  {len(frames)} frames, {frames[0].width} x {frames[0].height} px, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
