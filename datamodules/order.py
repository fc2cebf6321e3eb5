"""Training order: the sample of every draw, as a pure function of the seed and the draw number.

A global batch consists of S streams: stream s of step k is draw number g = k * S + s. Draw g belongs to pass g // N
over the N samples. Without files and state, every rank, worker and resumed run computes the same order.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

ORDER_VERSION = 1  # incremented when a change makes the same seed give another order

BATCHES_SORTED = 16  # batches whose clips are sorted by length together

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class DrawIndex(NamedTuple):
    """Index of the drawn sample, and zero-based index of the pass over its dataset."""

    sample: int
    pass_: int


class Order(Protocol):
    """Maps global draw numbers to samples."""

    def draw(self, number: int) -> DrawIndex:
        """Returns the draw with the given zero-based global number."""
        ...


def seed_of(*parts: object) -> int:
    """64-bit hash of the text of ``parts``, equal on every platform and library version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniform_below(bound: int, *parts: object) -> int:
    """Pseudo-random integer in [0, bound), a hash of ``parts``."""
    return (seed_of(*parts) * bound) >> 64


def permutation(count: int, seed: int) -> np.ndarray:
    """(count,) int64 pseudo-random permutation of 0 .. count - 1.

    Sorts positions by their SplitMix64 hash (Steele et al. 2014). A library's shuffle could change between releases.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.argsort(z, kind="stable")


class StreamOrder:
    """Endless order over samples in shards; every pass contains each sample once.

    In each pass the shards are permuted, and the samples within each shard. The resulting sequence is cut into S
    contiguous blocks, one per stream, so that each stream finishes a shard before it opens the next.

    Args:
        shards: (N,) index of each sample's shard.
        streams: S.
        seed: Seed of the order.

    Raises:
        ValueError: If there are no samples or no streams.
    """

    def __init__(self, shards: Sequence[int], streams: int, seed: int) -> None:
        if not len(shards) or streams < 1:
            raise ValueError(f"expected at least 1 sample and 1 stream, got {len(shards)} samples, {streams} streams")
        numbers = np.asarray(shards)
        self.streams = streams
        self.seed = seed
        self._shards = [np.flatnonzero(numbers == shard) for shard in np.unique(numbers)]
        self._count = len(numbers)
        self._pass_order = functools.lru_cache(maxsize=4)(self._compute_pass_order)

    def __len__(self) -> int:
        """Number of samples in a pass."""
        return self._count

    def draw(self, number: int) -> DrawIndex:
        """Returns the draw with the given global number."""
        pass_, position = divmod(number, self._count)
        row, column = divmod(position, self.streams)
        short, longer = divmod(self._count, self.streams)  # the first `longer` blocks hold one sample more
        block = column * short + min(column, longer)
        return DrawIndex(int(self._pass_order(pass_)[block + row]), pass_)

    def _compute_pass_order(self, pass_: int) -> np.ndarray:
        """(N,) sample indices of one pass, shard by shard."""
        turn = permutation(len(self._shards), seed_of("shards", self.seed, pass_))
        return np.concatenate(
            [
                members[permutation(len(members), seed_of("samples", self.seed, pass_, shard))]
                for shard, members in ((shard, self._shards[shard]) for shard in turn)
            ]
        )

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_pass_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._pass_order = functools.lru_cache(maxsize=4)(self._compute_pass_order)


class MixtureOrder:
    """Order over several datasets: of every sum(weights) draws, exactly ``weights[d]`` come from dataset d.

    Each dataset has its own order and its own count of passes, so small datasets are repeated more often.

    Args:
        shards: For each dataset, the shard index of each of its samples. Sample numbers run through all datasets.
        weights: Positive integer per dataset.
        streams: S of the mixture.
        seed: Seed of the order.

    Raises:
        ValueError: If a weight is less than 1, or there is not one weight per dataset.
    """

    def __init__(self, shards: Sequence[Sequence[int]], weights: Sequence[int], streams: int, seed: int) -> None:
        if len(weights) != len(shards) or any(weight < 1 for weight in weights):
            raise ValueError(f"weights={list(weights)}: expected {len(shards)} integers of at least 1, one per dataset")
        total = sum(weights)
        self.weights = tuple(weights)
        self._orders = [
            # About as many blocks as streams that read the dataset at a time. This affects only locality.
            StreamOrder(one, max(1, streams * weight // total), seed_of("dataset", seed, number))
            for number, (one, weight) in enumerate(zip(shards, weights, strict=True))
        ]
        self._first = np.cumsum([0, *(len(one) for one in shards)])
        # Turn i of dataset d is at (i + 1/2) / weight of the cycle, which spreads the turns evenly.
        turns = sorted((d for d, weight in enumerate(weights) for _ in range(weight)), key=lambda d: d)
        places = [(i + 0.5) / weight for weight in weights for i in range(weight)]
        self.pattern = tuple(d for _, d in sorted(zip(places, turns, strict=True)))
        self._before = [self.pattern[:j].count(d) for j, d in enumerate(self.pattern)]

    def __len__(self) -> int:
        """Number of samples of all datasets."""
        return int(self._first[-1])

    def draw(self, number: int) -> DrawIndex:
        """Returns the draw with the given global number."""
        cycle, place = divmod(number, len(self.pattern))
        dataset = self.pattern[place]
        inner = self._orders[dataset].draw(cycle * self.weights[dataset] + self._before[place])
        return DrawIndex(int(self._first[dataset]) + inner.sample, inner.pass_)


class RepeatedOrder:
    """Order in which a sample occurs several times in a pass.

    Each occurrence counts as a pass of its sample, so that no two have the same window.

    Args:
        order: Order over all occurrences: those of sample 0, then those of sample 1, and so on.
        counts: (N,) occurrences of each sample in a pass, at least 1.
    """

    def __init__(self, order: Order, counts: np.ndarray) -> None:
        self.order = order
        self._counts = counts
        self._ends = np.cumsum(self._counts)

    def __len__(self) -> int:
        """Number of draws of a pass."""
        return int(self._ends[-1])

    def draw(self, number: int) -> DrawIndex:
        """Returns the draw with the given global number."""
        inner = self.order.draw(number)
        sample = int(np.searchsorted(self._ends, inner.sample, "right"))
        count = int(self._counts[sample])
        return DrawIndex(sample, inner.pass_ * count + inner.sample - int(self._ends[sample]) + count)


def repeated(order: Order, counts: np.ndarray) -> Order:
    """Order whose samples occur ``counts`` times; the given one if all occur once."""
    return RepeatedOrder(order, counts) if (counts > 1).any() else order


def occurrences(frames: np.ndarray, window: int) -> np.ndarray:
    """(N,) number of windows of a length that the frames of each clip fill, rounded, at least 1."""
    return np.maximum(1, (2 * frames + window) // (2 * window))


class LengthOrder:
    """Order in which the clips of a global batch have similar lengths, so that ranks rarely wait for longer windows.

    The draws of several consecutive batches are sorted by length and cut into batches again, which keep a random order.
    Draws of equal length keep theirs. Every pass still contains each sample once.

    Args:
        order: Order to rearrange.
        lengths: Training length of each sample.
        batch_size: S.
        seed: Seed of the order of batches.
        period: Number of draws of a pass, which are rearranged among themselves; None if datasets have passes of
            different lengths.
        batches: Number of batches that are sorted together.
    """

    def __init__(
        self,
        order: Order,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        period: int | None = None,
        batches: int = BATCHES_SORTED,
    ) -> None:
        self.order = order
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.period = period or batches * batch_size
        self.batches = batches
        self._sorted = functools.lru_cache(maxsize=4)(self._sort)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.lengths)

    def draw(self, number: int) -> DrawIndex:
        """Returns the draw with the given global number."""
        size = self.batch_size
        turn = number // self.period
        # Whole batches of this pass; a batch that contains draws of two passes is left as it is.
        first, last = -(-turn * self.period // size), (turn + 1) * self.period // size
        step, place = divmod(number, size)
        if not first <= step < last:
            return self.order.draw(number)
        parts = max(1, round((last - first) / self.batches))
        part = ((step - first + 1) * parts - 1) // (last - first)
        begin = first + part * (last - first) // parts
        end = first + (part + 1) * (last - first) // parts
        return self._sorted(begin, end)[step - begin][place]

    def _sort(self, begin: int, end: int) -> list[list[DrawIndex]]:
        """Draws of the batches from ``begin`` to ``end``, rearranged."""
        size = self.batch_size
        draws = [self.order.draw(number) for number in range(begin * size, end * size)]
        by_length = np.argsort(self.lengths[[draw.sample for draw in draws]], kind="stable")
        batches = [[draws[i] for i in row] for row in by_length.reshape(-1, size)]
        return [batches[i] for i in permutation(end - begin, seed_of("lengths", self.seed, begin))]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_sorted"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._sorted = functools.lru_cache(maxsize=4)(self._sort)


def window_start(seed: int, key: str, pass_: int, frames: int, window: int) -> int:
    """First frame of a clip's window in one pass; 0 if the clip is not longer than the window.

    The start is drawn uniformly from a range that extends beyond the clip's ends and then clamped. Otherwise the first
    and last frames would be in far fewer windows than the middle ones. At most half of the draws are clamped.
    """
    places = max(1, frames - window + 1)
    beyond = min(window - 1, places // 2) if places > 1 else 0
    drawn = uniform_below(places + 2 * beyond, "window", seed, key, pass_) - beyond
    return min(max(drawn, 0), places - 1)


def reference_choice(seed: int, key: str, pass_: int, count: int) -> int:
    """Index of the stored portrait, out of ``count``, that is x_ref in one pass."""
    return uniform_below(count, "reference", seed, key, pass_)


def reference_clip(seed: int, key: str, pass_: int, count: int) -> int:
    """Index of the speaker's clip, out of ``count``, that provides x_ref in one pass."""
    return uniform_below(count, "reference clip", seed, key, pass_)


def step_seed(key: str, step: int) -> int:
    """Seed of a sample's random numbers in a training step, in [0, 2**63) as ``torch.Generator.manual_seed`` requires.

    It depends only on the sample and the step.
    """
    return seed_of("step", key, step) >> 1
