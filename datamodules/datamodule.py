"""Lightning data module for prepared shards of any dataset."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from configs.data import DataConfig
from configs.fields import MISSING
from configs.rules import check_data
from datamodules.audio_features import AudioFeatures
from datamodules.checks import check_sides, sides_of
from datamodules.clip_list import ClipList, ClipPart
from datamodules.clip_windows import BatchReader, Clip, ClipBatch, RankBatch, Window, emotion_index, micro_batches
from datamodules.identities import RootPeople, check_people
from datamodules.index_checks import check_index
from datamodules.loader import EvaluationDataset, EvaluationLoader, StreamDataset, StreamLoader
from datamodules.order import ORDER_VERSION, LengthOrder, Order, StreamOrder, occurrences, repeated
from datamodules.remote import read_index
from datamodules.schema import SPLITS, Dimensions, Index, LatentStatistics, ShardError, require_same_encoders
from datamodules.shards import ShardReader, WantedRows
from datamodules.splits import assign_splits, shares_speakers
from datamodules.staging import shard_source
from encoders.protocols import Identity

log = logging.getLogger(__name__)

CLIPS_AT_ONCE = 64  # whose latents are requested together from a remote root


class ShardDataModule(LightningDataModule):
    """Training, validation and test batches from prepared shards.

    Training draws random windows in the order defined by ``order.py``. Validation returns the first window of every
    clip and test every complete clip, one clip per batch in a fixed order.

    Args:
        config: Configuration; None for the defaults. Without a dataset name, any dataset is accepted.
        encoders: kind (audio, motion, codec, landmarks) -> required encoder identity; None accepts any.
        **changes: Single fields of ``DataConfig`` that override ``config``.

    Raises:
        ValueError: If a value is invalid; the message names its key.

    Attributes:
        validation_clips: Number of clips of a validation, over all ranks; None for all.
        indices: Root name -> index.
        clips: split -> clips, filled by ``setup``.
    """

    def __init__(
        self, config: DataConfig | None = None, encoders: Mapping[str, Identity] | None = None, **changes: Any
    ) -> None:
        super().__init__()
        self.config = replace(config or DataConfig(), **changes)
        check_data(self.config)
        self.encoders = encoders
        self.validation_clips: int | None = None
        self.indices: dict[str, Index] = {}
        self.clips: dict[str, ClipList] = {}
        self._readers: list[ShardReader] = []
        self._audio: AudioFeatures | None = None

    def roots(self) -> dict[str, str]:
        """Maps dataset names to folders or URLs."""
        if not self.config.root:
            raise ValueError("data.root is missing: set the folder or URL of the shards that prepare.py wrote")
        return {"shards" if self.config.name == MISSING else self.config.name: self.config.root}

    def setup(self, stage: str | None = None) -> None:
        """Reads the indices and assigns the clips to splits.

        Raises:
            ShardError: If shards are missing, damaged, of another dataset or of other encoders, if splits share a
                speaker, or if the roots of a mixture do not match.
        """
        if self.clips:
            return
        parts: dict[str, list[ClipPart]] = {split: [] for split in SPLITS}
        readers = []
        people: list[RootPeople] = []
        for number, (name, root) in enumerate(self.roots().items()):
            index = self._checked_index(root)
            self.indices[name] = index
            readers.append(
                ShardReader(index, shard_source(root, index, self.config.stage_to, self.config.stage_gib), root)
            )
            splits, names = self._splits(index)
            sides = sides_of(index, splits, names)
            check_sides(root, index, self.config.split, sides)
            made_with = index.split if self.config.split == "stored" else self.config.split
            shared = shares_speakers(index.dataset, made_with)
            people.append(RootPeople(root, index, dict(enumerate(names)), splits, sides, shared))
            long_enough = index.samples.frames >= self.config.min_frames
            prefix = f"{name}/" if len(self.roots()) > 1 else ""
            for code, split in enumerate(names):
                if split in parts:
                    rows = np.flatnonzero(long_enough & (splits == code))
                    parts[split].append(ClipPart(index.samples, rows, index.dataset, number, prefix))
            _log_counts(root, index, int((~long_enough).sum()), self.config.min_frames)
        check_people(people)
        self.clips, self._readers = {split: ClipList(each) for split, each in parts.items()}, readers
        self._check_together()
        if self.config.audio == "encoded":
            self._audio = AudioFeatures(self.index.encoders["audio"], self.dimensions, self.config.audio_model)
            if "audio" in self.config.fields:
                self._audio.encoder(self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))

    def _check_together(self) -> None:
        """Checks that several roots match; a single root has nothing to check."""

    @property
    def index(self) -> Index:
        """Index of the root, or of the first root of a mixture."""
        return next(iter(self._loaded().values()))

    @property
    def dimensions(self) -> Dimensions:
        """Feature sizes shared by all samples."""
        return self.index.dimensions

    @property
    def latent_statistics(self) -> LatentStatistics:
        """Per-channel mean and standard deviation of the unscaled latents over the frames of all roots."""
        parts = [index.latent for index in self._loaded().values()]
        if len(parts) == 1:
            return parts[0]
        frames = sum(part.frames for part in parts)
        means, deviations = [], []
        for channel in range(len(parts[0].mean)):
            mean = sum(part.frames * part.mean[channel] for part in parts) / frames
            square = sum(part.frames * (part.std[channel] ** 2 + part.mean[channel] ** 2) for part in parts) / frames
            means.append(mean)
            deviations.append(math.sqrt(max(0.0, square - mean**2)))
        return LatentStatistics(tuple(means), tuple(deviations), frames)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Column names of the true factors of synthetic clips; empty if the shards have none."""
        clip = self._split_clips("train")[0]
        return tuple(self._readers[clip.reader].read_meta(clip.entry).get("factor_names", ()))

    def motions(self, split: str = "train") -> Iterator[tuple[Clip, np.ndarray, np.ndarray]]:
        """Iterates over the clips of a split in fixed order.

        Yields:
            The clip, its (F, d_l) lip and (F, d_e) expression latents, float32.

        Raises:
            ShardError: If the split is empty or a shard is damaged.
        """
        sizes = self.dimensions
        clips = self._split_clips(split)
        for place, clip in enumerate(clips):
            if place % CLIPS_AT_ONCE == 0:
                self._fetch_motions(clips[place : place + CLIPS_AT_ONCE])
            lip = np.empty((clip.entry.frames, sizes.lip_width), np.float32)
            expression = np.empty((clip.entry.frames, sizes.expression_width), np.float32)
            reader = self._readers[clip.reader]
            reader.read_rows(clip.entry, "lip.npy", 0, lip)
            reader.read_rows(clip.entry, "expression.npy", 0, expression)
            yield clip, lip, expression

    def _fetch_motions(self, clips: Sequence[Clip]) -> None:
        for number, reader in enumerate(self._readers):
            reader.fetch(
                WantedRows(clip.entry, member, 0, clip.entry.frames)
                for clip in clips
                if clip.reader == number
                for member in ("lip.npy", "expression.npy")
            )

    def meta(self, clip: Clip) -> dict[str, Any]:
        """Reads the fields of a clip's ``meta.json``, see ``SampleMeta``.

        Raises:
            ShardError: If it is damaged.
        """
        self._loaded()
        return self._readers[clip.reader].read_meta(clip.entry)

    def whole(self, clip: Clip, fields: Sequence[str], frames: int | None = None) -> ClipBatch:
        """Reads one clip from its first frame as a batch; x_ref is its earliest portrait.

        Args:
            clip: One of ``clips``.
            fields: Fields of the batch, see ``ClipBatch``.
            frames: Maximum number of frames; None for all.

        Raises:
            ShardError: If a shard is damaged.
        """
        count = min(clip.entry.frames, frames or clip.entry.frames)
        return self._encoded(self._batch_reader(fields).read([Window(clip, 0, 0, count, -1)], count, 0))

    def on_after_batch_transfer(self, batch: RankBatch, dataloader_idx: int) -> RankBatch:
        """Makes the audio features of a batch from its sound with ``data.audio=encoded``, on the batch's device."""
        del dataloader_idx
        for part in micro_batches(batch):
            self._encoded(part)
        return batch

    def _encoded(self, batch: ClipBatch) -> ClipBatch:
        if self._audio is not None and "clip_speech" in batch:
            self._audio.add_to(batch)
        return batch

    def _batch_reader(self, fields: Sequence[str]) -> BatchReader:
        if self._audio is None:
            return BatchReader(self._readers, fields)
        longest = max(int(clips.frames.max()) for clips in self.clips.values() if len(clips))
        return BatchReader(self._readers, fields, longest)

    def train_dataloader(self) -> StreamLoader:
        """Resumable loader of this rank's part of the training order."""
        config, clips = self.config, self._split_clips("train")
        rank, ranks = self._rank()
        dataset = StreamDataset(
            clips,
            self._training_order(clips),
            self._batch_reader(config.fields),
            batch_size=config.batch_size,
            micro_batch=config.micro_batch,
            window=config.window,
            pad=config.pad,
            seed=config.seed,
            rank=rank,
            ranks=ranks,
            reference=config.reference,
        )
        return StreamLoader(dataset, config.steps_per_epoch, self._fingerprint(clips), workers=config.workers)

    def val_dataloader(self) -> EvaluationLoader:
        """Loader of the first window of ``validation_clips`` validation clips, evenly spaced over the split."""
        return self._evaluation("val", self.config.window, self.validation_clips)

    def test_dataloader(self) -> EvaluationLoader:
        """Loader of every complete test clip."""
        return self._evaluation("test", None)

    def _evaluation(self, split: str, window: int | None, count: int | None = None) -> EvaluationLoader:
        clips = self._split_clips(split).spread(count)
        dataset = EvaluationDataset(clips, self._batch_reader(self.config.fields), window, *self._rank())
        return EvaluationLoader(dataset, workers=self.config.workers)

    def _training_order(self, clips: ClipList) -> Order:
        """Order of the training clips, sorted by length where the length of windows depends on them."""
        config = self.config
        counts = occurrences(clips.frames, config.window) if config.pass_by == "frames" else np.ones(len(clips), int)
        order, in_passes = self._order(clips, counts)
        if config.pad or config.micro_batch is None:
            return order
        lengths = np.minimum(config.window, clips.frames)
        period = int(counts.sum()) if in_passes else None
        return LengthOrder(order, lengths, config.batch_size, config.seed, period)

    def _order(self, clips: ClipList, counts: np.ndarray) -> tuple[Order, bool]:
        """Order of the clips, each of which occurs ``counts`` times, and whether all clips have the same passes."""
        shards = np.repeat(clips.shard_numbers(), counts)
        return repeated(StreamOrder(shards.tolist(), self.config.batch_size, self.config.seed), counts), True

    def _fingerprint(self, clips: ClipList) -> dict[str, Any]:
        """Everything that the global batches depend on; a resumed run must have the same values."""
        config = self.config
        return {
            "data.seed": config.seed,
            "data.batch_size": config.batch_size,
            # With padding, windows do not depend on it. Checkpoints without it are of runs with null.
            "data.micro_batch": None if config.pad else config.micro_batch,
            "data.window": config.window,
            "data.pad": config.pad,
            "data.reference": config.reference,
            "data.pass_by": None if config.pass_by == "clips" else config.pass_by,  # as in checkpoints without it
            "data.weights": dict(config.weights),
            "order version": ORDER_VERSION,
            "training clips": clips_fingerprint(clips, self.indices),
        }

    def _splits(self, index: Index) -> tuple[np.ndarray, list[str]]:
        """Index of each sample's split, and the names of the splits."""
        samples = index.samples
        if self.config.split == "stored":
            return samples.label_codes("split")
        speakers = dict(zip(samples.keys_of(), map(str, samples.labels("speaker")), strict=True))
        assigned = assign_splits(index.dataset, self.config.split, speakers)
        names = sorted(set(assigned.values()))
        codes = {name: code for code, name in enumerate(names)}
        return np.array([codes[assigned[key]] for key in samples.keys_of()], np.int64), names

    def _checked_index(self, root: str) -> Index:
        index = read_index(root)
        check_index(index, root)
        if "audio" in self.config.fields and self.config.audio == "stored" and not index.stores_audio:
            raise ShardError(
                f"{root}: stores no audio features (it was prepared with store_audio=false); set data.audio=encoded, "
                "which makes them from the sound"
            )
        wanted = self.config.name
        if wanted not in (index.dataset, "mixture", MISSING):
            raise ShardError(
                f"{root}: contains dataset {index.dataset!r}, data.name={wanted} expects {wanted!r}; set "
                f"data.name={index.dataset}, or another data.root"
            )
        if self.encoders is not None:
            require_same_encoders(index, self.encoders, root)
        return index

    def _split_clips(self, split: str) -> ClipList:
        self._loaded()
        if not self.clips[split]:
            found = ", ".join(f"{len(clips)} {name}" for name, clips in self.clips.items())
            raise ShardError(
                f"{', '.join(self.roots().values())}: no {split} clips of at least {self.config.min_frames} frames "
                f"with data.split={self.config.split} (found: {found}); choose another data.split or lower "
                "data.min_frames"
            )
        return self.clips[split]

    def _loaded(self) -> dict[str, Index]:
        if not self.clips:
            self.setup()
        return self.indices

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def clips_fingerprint(clips: ClipList, indices: Mapping[str, Index]) -> str:
    """Number of clips and digest of their keys, frames and shards, for comparison."""
    digest = hashlib.sha256()
    for key, name, frames in clips.key_rows():
        digest.update(f"{key}\0{name}\0{frames}\0".encode())
    for index in indices.values():
        for shard in index.shards:
            digest.update(shard.sha256.encode())
    return f"{len(clips)} clips, {digest.hexdigest()[:16]}"


def _log_counts(root: str, index: Index, short: int, min_frames: int) -> None:
    log.info("%s: %d clips; skipped %d shorter than data.min_frames=%d", root, len(index.samples), short, min_frames)
    codes, names = index.samples.label_codes("emotion")
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    if unknown := {name: int(count) for name, count in zip(names, counts, strict=True) if emotion_index(name) < 0}:
        log.warning("%s: unknown emotions have emotion_index -1: %s", root, unknown)
