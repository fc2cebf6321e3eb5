"""Selection of frames and reference for each draw, and reading them as batches.

A batch is a plain dict, ``ClipBatch``, so that Lightning and DeepSpeed can move and pin it.

Shapes: B clips, N frames of the window, the rest as in ``schema.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from configs.data import FIELDS
from datamodules.decoding import decode_frames, decode_speech
from datamodules.order import reference_choice, window_start
from datamodules.sample_table import SampleEntry
from datamodules.schema import PORTRAITS, SAMPLES_PER_FRAME, ShardError
from datamodules.shards import ShardReader, WantedRows
from datamodules.splits.clip_names import EMOTIONS

_FRAME_FIELDS = {name: f"{name}.npy" for name in ("audio", "lip", "expression", "latent", "boxes", "factors")}
_REFERENCE_FIELDS = {name: f"{name}.npy" for name in ("expression", "latent", "boxes")}


class ClipBatch(TypedDict, total=False):
    """One batch.

    ``key`` to ``valid`` are always present. The others are present if ``data.fields`` contains the field named in
    parentheses. The reference frame x_ref is one of the clip's stored portraits: a random one in training, the earliest
    one in evaluation. With ``data.reference=speaker`` it is taken from any clip of the speaker in training.

    Attributes:
        key: B clip keys, unique in the run (``dataset/key`` in a mixture).
        dataset: B dataset names.
        speaker: B speaker names.
        emotion: B emotion labels or None.
        emotion_index: (B,) int64 index in ``EMOTIONS``; -1 for no or another emotion.
        level: (B,) int64 emotion level from 1 to 3; 0 for none.
        step: Index of the global batch; in evaluation, of the item.
        draw: (B,) int64 global draw number; in evaluation, index in the list of clips.
        start: (B,) int64 first frame of the window in its clip.
        frames: (B,) int64 number of frames that are not padding, at most N.
        mask: (B, N) bool, False where padded with zeros.
        valid: (B,) bool, False for clips repeated to give all ranks the same length; exclude them from metrics.
        audio: (B, N, L, D) float16 audio features (audio).
        clip_speech: (B, S) float32 sound of the whole clips, padded with zeros to that of the longest clip of the run,
            in place of ``audio`` until it is encoded (audio, with ``data.audio=encoded``).
        clip_frames: (B,) int64 number of frames of the whole clips (audio, as above).
        lip: (B, N, d_l) float32 lip latents (lip).
        expression: (B, N, d_e) float32 expression latents (expression).
        reference_expression: (B, d_e) float32 e_ref (expression).
        first_expression: (B, d_e) float32 expression of the clip's first frame (expression).
        latent: (B, N, C, h, w) float16 unscaled mode of the codec (latent).
        reference_latent: (B, C, h, w) float16 latent of x_ref (latent).
        boxes: (B, N, 2, 4) float32 lip and face boxes x0, y0, x1, y1 in pixels of the crop (boxes).
        reference_boxes: (B, 2, 4) float32 boxes of x_ref (boxes).
        reference_portrait: (B, 256, 256, 3) uint8 RGB x_ref (portraits).
        reference_frame: (B,) int64 frame index of x_ref in its clip (expression, latent, boxes or portraits).
        speech: (B, N * 640) float32 speech at 16 kHz in [-1, 1] (speech).
        factors: (B, N, K) float32 true factors of synthetic clips (factors).
        video: (B, N, H, W, 3) uint8 RGB frames (video).
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
    clip_speech: Tensor
    clip_frames: Tensor
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


RankBatch = ClipBatch | list[ClipBatch]  # the batch of a rank: one micro-batch, or a list of several


def micro_batches(batch: RankBatch) -> list[ClipBatch]:
    """The micro-batches of a rank's batch, one or more."""
    return batch if isinstance(batch, list) else [batch]


Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


def new_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Creates an uninitialised tensor."""
    return torch.empty(shape, dtype=dtype)


class StepReader(Protocol):
    """Dataset that reads the batch of a step into given memory."""

    def read(self, step: int, allocate: Allocate) -> RankBatch:
        """Reads the batch of ``step`` into tensors created by ``allocate``."""
        ...


@dataclass(frozen=True)
class Clip:
    """A clip of the run: unique key, dataset name, index entry, and index of the reader of its shards."""

    key: str
    dataset: str
    entry: SampleEntry
    reader: int


class Window(NamedTuple):
    """Part of a clip to read.

    Attributes:
        clip: Clip of the frames.
        draw: Global draw number.
        start: First frame.
        frames: Number of frames.
        portrait: Index of the portrait that is x_ref; -1 for the earliest.
        valid: False for a repeated clip, see ``ClipBatch``.
        reference: Clip of x_ref, if it is another one.
    """

    clip: Clip
    draw: int
    start: int
    frames: int
    portrait: int
    valid: bool = True
    reference: Clip | None = None

    def of_reference(self) -> Window:
        """Returns the same window in the clip of x_ref."""
        return self if self.reference is None else self._replace(clip=self.reference)


class MicroBatch(NamedTuple):
    """Windows of one forward pass, and their length N with padding."""

    windows: list[Window]
    length: int

    @property
    def frames(self) -> int:
        """Total number of frames that are not padding."""
        return sum(window.frames for window in self.windows)


def training_windows(
    clips: Sequence[Clip], draws: Sequence[int], passes: Sequence[int], seed: int, window: int, pad: bool
) -> tuple[list[Window], int]:
    """Computes the windows of clips that share a length N, a micro-batch. A pure function, so equal on every rank.

    Args:
        clips: Drawn clips.
        draws: Global draw number of each clip.
        passes: Pass of each clip; its window and reference differ from pass to pass.
        seed: Seed of the training order.
        window: Frames of a training window.
        pad: With True, N is ``window`` and shorter clips are padded. With False, N is the length of the shortest clip,
            at most ``window``, without padding.
    """
    shortest = min(window, *(clip.entry.frames for clip in clips))
    windows = []
    for clip, draw, pass_ in zip(clips, draws, passes, strict=True):
        frames = min(window, clip.entry.frames) if pad else shortest
        start = window_start(seed, clip.key, pass_, clip.entry.frames, frames)
        windows.append(Window(clip, draw, start, frames, reference_choice(seed, clip.key, pass_, PORTRAITS)))
    return windows, window if pad else shortest


class BatchReader:
    """Reads windows as batches. Arrays are read from the shard directly into the batch.

    Args:
        readers: One reader per root.
        fields: Fields of the batches, a subset of ``FIELDS``.
        speech_frames: Length to which the sound of whole clips is padded, frames, if audio features are made from it;
            None if they are stored.

    Raises:
        ValueError: If a field is unknown.
    """

    def __init__(self, readers: Sequence[ShardReader], fields: Sequence[str], speech_frames: int | None = None) -> None:
        if unknown := set(fields) - set(FIELDS):
            raise ValueError(f"data.fields: unknown {', '.join(sorted(unknown))}; choose from {', '.join(FIELDS)}")
        self.readers = list(readers)
        self.fields = tuple(dict.fromkeys(fields))
        self.speech_frames = speech_frames
        encoded = ("audio",) if speech_frames is not None else ()
        self._members = {
            field: member for field, member in _FRAME_FIELDS.items() if field in self.fields and field not in encoded
        }

    def read(self, windows: Sequence[Window], length: int, step: int, allocate: Allocate = new_tensor) -> ClipBatch:
        """Reads a batch of windows.

        Args:
            windows: B windows.
            length: N.
            step: Index of the batch.
            allocate: Function that creates the tensors.

        Raises:
            ShardError: If a shard is damaged, or a clip lacks a field.
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
        self._fetch(windows)
        tensors: dict[str, Tensor] = {}
        for field, member in self._members.items():
            tensors[field] = self._frames(windows, length, member, allocate)
        if "audio" in self.fields and self.speech_frames is not None:
            tensors["clip_speech"] = self._clip_speech(windows, self.speech_frames, allocate)
            tensors["clip_frames"] = torch.tensor([window.clip.entry.frames for window in windows])
        if "speech" in self.fields:
            tensors["speech"] = self._speech(windows, length, allocate)
        if "video" in self.fields:
            tensors["video"] = self._video(windows, length, allocate)
        if not {*_REFERENCE_FIELDS, "portraits"}.isdisjoint(self.fields):
            tensors.update(self._references(windows, allocate))
        batch.update(tensors)  # type: ignore[typeddict-item]
        return batch

    def _fetch(self, windows: Sequence[Window]) -> None:
        """Asks remote roots for everything whose place is known, at once."""
        members = list(self._members.values())
        wanted: dict[int, list[WantedRows]] = {}
        for window in windows:
            of_clip = wanted.setdefault(window.clip.reader, [])
            of_clip += [WantedRows(window.clip.entry, name, window.start, window.frames) for name in members]
            if "expression" in self.fields:
                of_clip.append(WantedRows(window.clip.entry, "expression.npy", 0, 1))
            if not {*_REFERENCE_FIELDS, "portraits"}.isdisjoint(self.fields):
                source = window.of_reference().clip
                wanted.setdefault(source.reader, []).append(WantedRows(source.entry, "meta.json"))
        for number, reader in enumerate(self.readers):
            reader.fetch(wanted.get(number, ()))

    def _frames(self, windows: Sequence[Window], length: int, member: str, allocate: Allocate) -> Tensor:
        header = self._reader(windows[0]).header(windows[0].clip.entry, member)
        out = allocate((len(windows), length, *header.shape[1:]), _torch_dtype(header.dtype))
        for row, window in zip(out.numpy(), windows, strict=True):
            self._reader(window).read_rows(window.clip.entry, member, window.start, row[: window.frames])
            row[window.frames :] = 0
        return out

    def _references(self, windows: Sequence[Window], allocate: Allocate) -> dict[str, Tensor]:
        """Reads x_ref and the features of its frame."""
        sources = [window.of_reference() for window in windows]
        portraits, places = [], []
        for source in sources:
            taken_at = self._reader(source).read_meta(source.clip.entry)["portrait_frames"]
            portraits.append(int(np.argmin(taken_at)) if source.portrait < 0 else source.portrait)
            places.append(int(taken_at[portraits[-1]]))
        for number, reader in enumerate(self.readers):
            reader.fetch(
                (
                    WantedRows(source.clip.entry, member, row, 1)
                    for source, place, portrait in zip(sources, places, portraits, strict=True)
                    if source.clip.reader == number
                    for member, row in self._of_reference(place, portrait)
                ),
                keep=True,
            )
        out = {"reference_frame": torch.tensor(places)}
        for field, member in _REFERENCE_FIELDS.items():
            if field in self.fields:
                out[f"reference_{field}"] = self._rows(sources, member, places, allocate)
        if "expression" in self.fields:
            out["first_expression"] = self._rows(windows, "expression.npy", [0] * len(windows), allocate)
        if "portraits" in self.fields:
            out["reference_portrait"] = self._rows(sources, "portraits.npy", portraits, allocate)
        return out

    def _of_reference(self, place: int, portrait: int) -> Iterator[tuple[str, int]]:
        """Member and row of each feature of x_ref."""
        yield from ((member, place) for field, member in _REFERENCE_FIELDS.items() if field in self.fields)
        if "portraits" in self.fields:
            yield "portraits.npy", portrait

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
            samples = self._samples(window)
            first = window.start * SAMPLES_PER_FRAME
            count = window.frames * SAMPLES_PER_FRAME
            row[:count] = torch.from_numpy(samples[first : first + count])
        return out

    def _clip_speech(self, windows: Sequence[Window], frames: int, allocate: Allocate) -> Tensor:
        out = allocate((len(windows), frames * SAMPLES_PER_FRAME), torch.float32).zero_()
        for row, window in zip(out, windows, strict=True):
            samples = self._samples(window)
            row[: len(samples)] = torch.from_numpy(samples)
        return out

    def _samples(self, window: Window) -> np.ndarray:
        """(S,) float32 sound of the whole clip."""
        entry = window.clip.entry
        samples = decode_speech(self._reader(window).read_bytes(entry, "speech.flac"), f"{entry.key}.speech.flac")
        if len(samples) != entry.frames * SAMPLES_PER_FRAME:
            raise ShardError(
                f"{entry.shard}: {entry.key}.speech.flac has {len(samples)} samples, expected "
                f"{entry.frames * SAMPLES_PER_FRAME} for {entry.frames} frames; run prepare.py task=check"
            )
        return samples

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
    """Index of an emotion in ``EMOTIONS``; -1 for None or another name."""
    return EMOTIONS.index(emotion) if emotion in EMOTIONS else -1


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
