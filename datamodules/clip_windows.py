"""From clips to batches: which frames and which reference a draw takes, and how they are read.

A batch is a plain dict, ``ClipBatch``, so that Lightning, DeepSpeed and pinned memory move it without special cases.
Shapes: B clips, N frames of the window, the rest as in ``schema.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from configs.data import FIELDS
from datamodules.decoding import decode_frames, decode_speech
from datamodules.order import reference_choice, window_start
from datamodules.schema import PORTRAITS, SAMPLES_PER_FRAME, SampleEntry, ShardError
from datamodules.shards import ShardReader
from datamodules.splits.clip_names import EMOTIONS

_FRAME_FIELDS = {name: f"{name}.npy" for name in ("audio", "lip", "expression", "latent", "boxes", "factors")}
_REFERENCE_FIELDS = {name: f"{name}.npy" for name in ("expression", "latent", "boxes")}


class ClipBatch(TypedDict, total=False):
    """One batch.

    Always there are ``key`` to ``valid``; the others come with the field of ``data.fields`` they are named after. The
    reference frame x_ref is one of the clip's stored portraits: a random one in training, the earliest in evaluation.
    With ``data.reference=speaker`` training takes it from any clip of the speaker.

    Attributes:
        key: B names, unique in the run (``dataset/key`` in a mixture).
        dataset: B dataset names.
        speaker: B names.
        emotion: B names, or None.
        emotion_index: (B,) int64 in ``EMOTIONS``, -1 for none or another.
        level: (B,) int64 from 1 to 3, 0 for none.
        step: number of the global batch; in evaluation of the row.
        draw: (B,) int64 global draw numbers; in evaluation places in the list of clips.
        start: (B,) int64 first frame of the window in its clip.
        frames: (B,) int64 frames that are there, at most N.
        mask: (B, N) bool, False where padded with zeros.
        valid: (B,) bool, False for repeats that only make ranks equally long; drop them before a metric.
        audio: (B, N, L, D) float16.
        lip: (B, N, d_l) float32.
        expression: (B, N, d_e) float32.
        reference_expression: (B, d_e) float32, with ``expression``: e_ref.
        first_expression: (B, d_e) float32, with ``expression``: of the clip's first frame, e_cond in training.
        latent: (B, N, C, h, w) float16, the codec's unscaled mode.
        reference_latent: (B, C, h, w) float16, with ``latent``.
        boxes: (B, N, 2, 4) float32 lip and face boxes x0, y0, x1, y1 in pixels of the crop.
        reference_boxes: (B, 2, 4) float32, with ``boxes``.
        reference_portrait: (B, 256, 256, 3) uint8 RGB, with ``portraits``: x_ref.
        reference_frame: (B,) int64, with any of the four above: its place in its clip.
        speech: (B, N * 640) float32 16 kHz in [-1, 1].
        factors: (B, N, K) float32 true factors of synthetic clips.
        video: (B, N, H, W, 3) uint8 RGB.
    """

    key: list[str]
    dataset: list[str]
    speaker: list[str]
    emotion: list[str | None]
    emotion_index: Tensor
    level: Tensor
    step: int
    draw: Tensor
    start: Tensor
    frames: Tensor
    mask: Tensor
    valid: Tensor
    audio: Tensor
    lip: Tensor
    expression: Tensor
    reference_expression: Tensor
    first_expression: Tensor
    latent: Tensor
    reference_latent: Tensor
    boxes: Tensor
    reference_boxes: Tensor
    reference_portrait: Tensor
    reference_frame: Tensor
    speech: Tensor
    factors: Tensor
    video: Tensor


Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


def new_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor."""
    return torch.empty(shape, dtype=dtype)


class StepReader(Protocol):
    """Reads the batch of a step into tensors it is given."""

    def read(self, step: int, allocate: Allocate) -> ClipBatch:
        """The batch of ``step``, its arrays made by ``allocate``."""
        ...


@dataclass(frozen=True)
class Clip:
    """A clip of the run: its unique key, its dataset's name, its place in the shards, and who reads them."""

    key: str
    dataset: str
    entry: SampleEntry
    reader: int


class Window(NamedTuple):
    """What to read of one clip: ``frames`` frames from ``start``, and the portrait that is x_ref (-1: the earliest).

    With ``reference``, x_ref is a portrait of that clip instead.
    """

    clip: Clip
    draw: int
    start: int
    frames: int
    portrait: int
    valid: bool = True
    reference: Clip | None = None

    def of_reference(self) -> Window:
        """The same window in the clip x_ref is taken from."""
        return self if self.reference is None else self._replace(clip=self.reference)


def training_windows(
    clips: Sequence[Clip], draws: Sequence[int], passes: Sequence[int], seed: int, window: int, pad: bool
) -> tuple[list[Window], int]:
    """The windows of one global batch, and its length N: pure in the arguments, so equal on every rank.

    Args:
        clips: the S clips drawn.
        draws: their global draw numbers.
        passes: the pass each belongs to; a clip shows another window and reference in every pass.
        seed: of the training order.
        window: frames of a training window.
        pad: with True N is ``window`` and shorter clips are padded; with False N is the length of the shortest clip,
            at most ``window``, and nothing is padded.
    """
    shortest = min(window, *(clip.entry.frames for clip in clips))
    windows = []
    for clip, draw, pass_ in zip(clips, draws, passes, strict=True):
        frames = min(window, clip.entry.frames) if pad else shortest
        start = window_start(seed, clip.key, pass_, clip.entry.frames, frames)
        windows.append(Window(clip, draw, start, frames, reference_choice(seed, clip.key, pass_, PORTRAITS)))
    return windows, window if pad else shortest


class BatchReader:
    """Reads windows into batches: every array goes from its shard straight to its place in the batch.

    Args:
        readers: one for each root.
        fields: which of ``FIELDS`` the batches carry.

    Raises:
        ValueError: for an unknown field.
    """

    def __init__(self, readers: Sequence[ShardReader], fields: Sequence[str]) -> None:
        if unknown := set(fields) - set(FIELDS):
            raise ValueError(f"data.fields: {', '.join(sorted(unknown))} unknown; choose from {', '.join(FIELDS)}")
        self.readers = list(readers)
        self.fields = tuple(dict.fromkeys(fields))

    def read(self, windows: Sequence[Window], length: int, step: int, allocate: Allocate = new_tensor) -> ClipBatch:
        """The batch of the given windows, N = ``length``.

        Args:
            windows: B of them.
            length: N.
            step: its number.
            allocate: makes the tensors that frames are read into.

        Raises:
            ShardError: when a shard is damaged, or a clip lacks a field.
        """
        entries = [window.clip.entry for window in windows]
        frames = torch.tensor([window.frames for window in windows])
        batch: ClipBatch = {
            "key": [window.clip.key for window in windows],
            "dataset": [window.clip.dataset for window in windows],
            "speaker": [entry.speaker for entry in entries],
            "emotion": [entry.emotion for entry in entries],
            "emotion_index": torch.tensor([emotion_index(entry.emotion) for entry in entries]),
            "level": torch.tensor([entry.level or 0 for entry in entries]),
            "step": step,
            "draw": torch.tensor([window.draw for window in windows]),
            "start": torch.tensor([window.start for window in windows]),
            "frames": frames,
            "mask": torch.arange(length) < frames[:, None],
            "valid": torch.tensor([window.valid for window in windows]),
        }
        tensors: dict[str, Tensor] = {}
        for field in self.fields:
            if field in _FRAME_FIELDS:
                tensors[field] = self._frames(windows, length, _FRAME_FIELDS[field], allocate)
        if "speech" in self.fields:
            tensors["speech"] = self._speech(windows, length, allocate)
        if "video" in self.fields:
            tensors["video"] = self._video(windows, length, allocate)
        if not {*_REFERENCE_FIELDS, "portraits"}.isdisjoint(self.fields):
            tensors.update(self._references(windows, allocate))
        batch.update(tensors)  # type: ignore[typeddict-item]
        return batch

    def _frames(self, windows: Sequence[Window], length: int, member: str, allocate: Allocate) -> Tensor:
        header = self._reader(windows[0]).header(windows[0].clip.entry, member)
        out = allocate((len(windows), length, *header.shape[1:]), _torch_dtype(header.dtype))
        for row, window in zip(out.numpy(), windows, strict=True):
            self._reader(window).read_rows(window.clip.entry, member, window.start, row[: window.frames])
            row[window.frames :] = 0
        return out

    def _references(self, windows: Sequence[Window], allocate: Allocate) -> dict[str, Tensor]:
        """x_ref and what belongs to its frame; one row of each member is read."""
        sources = [window.of_reference() for window in windows]
        portraits, places = [], []
        for source in sources:
            taken_at = self._reader(source).read_meta(source.clip.entry)["portrait_frames"]
            portraits.append(int(np.argmin(taken_at)) if source.portrait < 0 else source.portrait)
            places.append(int(taken_at[portraits[-1]]))
        out = {"reference_frame": torch.tensor(places)}
        for field, member in _REFERENCE_FIELDS.items():
            if field in self.fields:
                out[f"reference_{field}"] = self._rows(sources, member, places, allocate)
        if "expression" in self.fields:
            out["first_expression"] = self._rows(windows, "expression.npy", [0] * len(windows), allocate)
        if "portraits" in self.fields:
            out["reference_portrait"] = self._rows(sources, "portraits.npy", portraits, allocate)
        return out

    def _rows(self, windows: Sequence[Window], member: str, rows: Sequence[int], allocate: Allocate) -> Tensor:
        header = self._reader(windows[0]).header(windows[0].clip.entry, member)
        out = allocate((len(windows), *header.shape[1:]), _torch_dtype(header.dtype))
        filled = out.numpy()
        for i, (window, row) in enumerate(zip(windows, rows, strict=True)):
            self._reader(window).read_rows(window.clip.entry, member, row, filled[i : i + 1])
        return out

    def _speech(self, windows: Sequence[Window], length: int, allocate: Allocate) -> Tensor:
        out = allocate((len(windows), length * SAMPLES_PER_FRAME), torch.float32).zero_()
        for row, window in zip(out, windows, strict=True):
            entry = window.clip.entry
            samples = decode_speech(self._reader(window).read_bytes(entry, "speech.flac"), f"{entry.key}.speech.flac")
            if len(samples) != entry.frames * SAMPLES_PER_FRAME:
                raise ShardError(
                    f"{entry.shard}: {entry.key}.speech.flac has {len(samples)} samples, {entry.frames} frames need "
                    f"{entry.frames * SAMPLES_PER_FRAME}; run prepare.py task=check"
                )
            first = window.start * SAMPLES_PER_FRAME
            count = window.frames * SAMPLES_PER_FRAME
            row[:count] = torch.from_numpy(samples[first : first + count])
        return out

    def _video(self, windows: Sequence[Window], length: int, allocate: Allocate) -> Tensor:
        out = None
        for i, window in enumerate(windows):
            entry = window.clip.entry
            pixels = decode_frames(
                self._reader(window).read_bytes(entry, "video.mp4"),
                window.start,
                window.frames,
                f"{entry.key}.video.mp4",
            )
            if out is None:
                out = allocate((len(windows), length, *pixels.shape[1:]), torch.uint8).zero_()
            out[i, : window.frames] = torch.from_numpy(pixels)
        assert out is not None
        return out

    def _reader(self, window: Window) -> ShardReader:
        return self.readers[window.clip.reader]


def emotion_index(emotion: str | None) -> int:
    """Place of an emotion in ``EMOTIONS``; -1 for none, or for a name that is not MEAD's."""
    return EMOTIONS.index(emotion) if emotion in EMOTIONS else -1


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
