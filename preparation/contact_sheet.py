"""Contact sheet for visual inspection: the portraits of each kept clip with its lip and face boxes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datamodules.sample_table import SampleEntry
from datamodules.schema import PORTRAIT_SIZE, PORTRAITS, Index
from runtime.files import write_whole

SHEET_NAME = "contact_sheet.png"
TILE = 128
CAPTION = 18
COLUMNS = 2
MOST_CLIPS = 60
LIP_COLOUR, FACE_COLOUR = (255, 80, 80), (80, 220, 120)


def draw_contact_sheet(folder: Path, index: Index) -> Path:
    """Writes ``contact_sheet.png`` into the folder of the shards: at most 60 clips, spread evenly over the index.

    Each clip is a row of four portraits below its key, speaker, emotion and length. The lip box is red, the face box
    green.

    Returns:
        Path of the picture.
    """
    chosen = np.linspace(0, len(index.samples) - 1, min(MOST_CLIPS, len(index.samples))).round().astype(int)
    rows = -(-len(chosen) // COLUMNS)
    width, height = PORTRAITS * TILE + 8, TILE + CAPTION + 6
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), (24, 24, 28))
    for place, number in enumerate(chosen):
        sheet.paste(
            _clip_row(folder, index, index.samples[number]), (place % COLUMNS * width, place // COLUMNS * height)
        )
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    write_whole(folder / SHEET_NAME, buffer.getvalue())
    return folder / SHEET_NAME


def _clip_row(folder: Path, index: Index, sample: SampleEntry) -> Image.Image:
    portraits = np.load(io.BytesIO(_read_bytes(folder, sample, "portraits.npy")))
    boxes = np.load(io.BytesIO(_read_bytes(folder, sample, "boxes.npy")))
    portrait_frames = json.loads(_read_bytes(folder, sample, "meta.json"))["portrait_frames"]
    row = Image.new("RGB", (PORTRAITS * TILE, TILE + CAPTION), (24, 24, 28))
    draw = ImageDraw.Draw(row)
    emotion = f"{sample.emotion} {sample.level or ''}".strip() if sample.emotion else ""
    caption = "  ".join(
        part for part in (sample.key, sample.speaker, emotion, f"{sample.frames}f", sample.split) if part
    )
    draw.text((2, 2), caption[:84], (230, 230, 230), ImageFont.load_default(11))
    for place, (portrait, frame) in enumerate(zip(portraits, portrait_frames, strict=True)):
        tile = Image.fromarray(portrait)
        pen = ImageDraw.Draw(tile)
        for box, colour in zip(
            boxes[frame] * (PORTRAIT_SIZE / index.frame_size), (LIP_COLOUR, FACE_COLOUR), strict=True
        ):
            pen.rectangle([float(value) for value in box], outline=colour, width=2)
        row.paste(tile.resize((TILE, TILE), Image.Resampling.LANCZOS), (place * TILE, CAPTION))
    return row


def _read_bytes(folder: Path, sample: SampleEntry, member: str) -> bytes:
    offset, size = sample.members[member]
    with (folder / sample.shard).open("rb") as shard:
        shard.seek(offset)
        return shard.read(size)
