"""Lightning datamodules over prepared shards: HDTF, MEAD, synthetic speakers, any folder of videos."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from configs.data import DataConfig
from configs.fields import MISSING
from configs.rules import check_data
from datamodules.checks import check_sides
from datamodules.clip_windows import BatchReader, Clip, ClipBatch, Window, emotion_index
from datamodules.loader import EvaluationDataset, EvaluationLoader, StreamDataset, StreamLoader
from datamodules.order import ORDER_VERSION, Order, StreamOrder
from datamodules.schema import SPLITS, Dimensions, Index, LatentStatistics, ShardError, require_same_encoders
from datamodules.shards import ShardReader, check_index
from datamodules.splits import assign_splits
from datamodules.staging import read_index, shard_source
from encoders.protocols import Identity

log = logging.getLogger(__name__)


class ShardDataModule(LightningDataModule):
    """Training, validation and test batches from prepared shards.

    Training draws windows in the order of ``order.py``; validation shows the first window and test the whole of every
    clip, one by one in fixed order.

    Args:
        config: the fields of ``DataConfig``; None takes its defaults; without a name any dataset will do.
        encoders: identities under audio, motion, codec, landmarks that the experiment uses; shards made by others are
            refused. None takes any.
        **changes: single fields of ``DataConfig``, over ``config``.

    Raises:
        ValueError: for a value that cannot be, naming the key.

    Attributes:
        index: of the root; the first one of a mixture.
        indices: root name -> index.
    """

    def __init__(
        self, config: DataConfig | None = None, encoders: Mapping[str, Identity] | None = None, **changes: Any
    ) -> None:
        super().__init__()
        self.config = replace(config or DataConfig(), **changes)
        check_data(self.config)
        self.encoders = encoders
        self.indices: dict[str, Index] = {}
        self.clips: dict[str, list[Clip]] = {}
        self._readers: list[ShardReader] = []

    def roots(self) -> dict[str, str]:
        """Dataset name -> folder or URL."""
        if not self.config.root:
            raise ValueError("data.root is missing: name the folder or URL of the shards that prepare.py wrote")
        return {"shards" if self.config.name == MISSING else self.config.name: self.config.root}

    def setup(self, stage: str | None = None) -> None:
        """Reads the indices and sorts the clips into splits.

        Raises:
            ShardError: for shards that are missing, damaged, of another dataset or other encoders, for a split with the
                same person on two sides, and for roots that do not fit together.
        """
        if self.clips:
            return
        clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
        readers = []
        for number, (name, root) in enumerate(self.roots().items()):
            index = self._checked_index(root)
            self.indices[name] = index
            readers.append(
                ShardReader(index, shard_source(root, index, self.config.stage_to, self.config.stage_gib), root)
            )
            sides: dict[str, set[str]] = defaultdict(set)
            splits = self._splits(index)
            short = 0
            for entry in index.samples:
                split = splits[entry.key]
                sides[entry.speaker].add(split)
                if entry.frames < self.config.min_frames:
                    short += 1
                elif split in clips:
                    key = f"{name}/{entry.key}" if len(self.roots()) > 1 else entry.key
                    clips[split].append(Clip(key, index.dataset, entry, number))
            check_sides(root, index, self.config.split, sides)
            _log_counts(root, index, short, self.config.min_frames)
        self.clips, self._readers = clips, readers
        self._check_together()

    def _check_together(self) -> None:
        """Refuses roots that do not fit together; there is one here."""

    @property
    def index(self) -> Index:
        """The index of the root; of a mixture's first."""
        return next(iter(self._loaded().values()))

    @property
    def dimensions(self) -> Dimensions:
        """Sizes all samples share."""
        return self.index.dimensions

    @property
    def latent_statistics(self) -> LatentStatistics:
        """Per-channel mean and deviation of the unscaled latents, pooled over the roots by their frames."""
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
        """What the columns of synthetic clips' true factors are; empty where there are none."""
        clip = self._split_clips("train")[0]
        return tuple(self._readers[clip.reader].read_meta(clip.entry).get("factor_names", ()))

    def motions(self, split: str = "train") -> Iterator[tuple[Clip, np.ndarray, np.ndarray]]:
        """Every clip of a split in fixed order with its whole lip (F, d_l) and expression (F, d_e), float32.

        Raises:
            ShardError: when the split is empty or a shard is damaged.
        """
        sizes = self.dimensions
        for clip in self._split_clips(split):
            lip = np.empty((clip.entry.frames, sizes.lip_width), np.float32)
            expression = np.empty((clip.entry.frames, sizes.expression_width), np.float32)
            reader = self._readers[clip.reader]
            reader.read_rows(clip.entry, "lip.npy", 0, lip)
            reader.read_rows(clip.entry, "expression.npy", 0, expression)
            yield clip, lip, expression

    def meta(self, clip: Clip) -> dict[str, Any]:
        """What a clip's ``meta.json`` says: its source, crop, ...; see ``SampleMeta``.

        Raises:
            ShardError: when it is damaged.
        """
        self._loaded()
        return self._readers[clip.reader].read_meta(clip.entry)

    def whole(self, clip: Clip, fields: Sequence[str], frames: int | None = None) -> ClipBatch:
        """A batch of one clip from its first frame on, x_ref its earliest portrait.

        Args:
            clip: one of ``clips``.
            fields: what the batch carries.
            frames: at most so many; None for all.

        Raises:
            ShardError: when a shard is damaged.
        """
        count = min(clip.entry.frames, frames or clip.entry.frames)
        return BatchReader(self._readers, fields).read([Window(clip, 0, 0, count, -1)], count, 0)

    def train_dataloader(self) -> StreamLoader:
        """This rank's part of the training order; resumable."""
        config, clips = self.config, self._split_clips("train")
        rank, ranks = self._rank()
        dataset = StreamDataset(
            clips,
            self._order(clips),
            BatchReader(self._readers, config.fields),
            batch_size=config.batch_size,
            window=config.window,
            pad=config.pad,
            seed=config.seed,
            rank=rank,
            ranks=ranks,
            reference=config.reference,
        )
        return StreamLoader(dataset, config.steps_per_epoch, self._fingerprint(clips), workers=config.workers)

    def val_dataloader(self) -> EvaluationLoader:
        """The first window of every validation clip."""
        return self._evaluation("val", self.config.window)

    def test_dataloader(self) -> EvaluationLoader:
        """Every test clip from its first to its last frame."""
        return self._evaluation("test", None)

    def _evaluation(self, split: str, window: int | None) -> EvaluationLoader:
        clips = self._split_clips(split)
        dataset = EvaluationDataset(clips, BatchReader(self._readers, self.config.fields), window, *self._rank())
        return EvaluationLoader(dataset, workers=self.config.workers)

    def _order(self, clips: list[Clip]) -> Order:
        shards = [(clip.reader, clip.entry.shard) for clip in clips]
        numbers = {shard: number for number, shard in enumerate(sorted(set(shards)))}
        return StreamOrder([numbers[shard] for shard in shards], self.config.batch_size, self.config.seed)

    def _fingerprint(self, clips: list[Clip]) -> dict[str, Any]:
        """What the global batches depend on, for a resumed run to be held against."""
        config = self.config
        return {
            "data.seed": config.seed,
            "data.batch_size": config.batch_size,
            "data.window": config.window,
            "data.pad": config.pad,
            "data.reference": config.reference,
            "data.weights": dict(config.weights),
            "order version": ORDER_VERSION,
            "training clips": clips_fingerprint(clips, self.indices),
        }

    def _splits(self, index: Index) -> dict[str, str]:
        """Clip key -> split."""
        if self.config.split == "stored":
            return {entry.key: entry.split for entry in index.samples}
        return assign_splits(index.dataset, self.config.split, {entry.key: entry.speaker for entry in index.samples})

    def _checked_index(self, root: str) -> Index:
        index = read_index(root)
        check_index(index, root)
        wanted = self.config.name
        if wanted not in (index.dataset, "mixture", MISSING):
            raise ShardError(
                f"{root}: holds dataset {index.dataset!r}, data.name={wanted} expects {wanted!r}; set "
                f"data={index.dataset}, or another data.root"
            )
        if self.encoders is not None:
            require_same_encoders(index, self.encoders, root)
        return index

    def _split_clips(self, split: str) -> list[Clip]:
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


def clips_fingerprint(clips: list[Clip], indices: Mapping[str, Index]) -> str:
    """Short text that is equal for equal lists of clips in equal shards: their number and a digest."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.key}\0{clip.entry.shard}\0{clip.entry.frames}\0".encode())
    for index in indices.values():
        for shard in index.shards:
            digest.update(shard.sha256.encode())
    return f"{len(clips)} clips, {digest.hexdigest()[:16]}"


def _log_counts(root: str, index: Index, short: int, min_frames: int) -> None:
    log.info("%s: %d clips, %d shorter than data.min_frames=%d left out", root, len(index.samples), short, min_frames)
    unknown = Counter(s.emotion for s in index.samples if s.emotion is not None and emotion_index(s.emotion) < 0)
    if unknown:
        log.warning("%s: emotions without an index, given as -1: %s", root, dict(unknown))
