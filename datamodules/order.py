"""Training order: which clip is drawn when, as a pure function of the seed and the number of the draw.

S streams make the global batch: stream s of step k is draw number g = k * S + s. N samples make a pass: draw g belongs
to pass g // N. Nothing here reads a file or keeps a state, so any rank, worker or resumed run computes the same order.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

ORDER_VERSION = 1  # raised whenever the same seed would give another order

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class DrawIndex(NamedTuple):
    """One draw: the number of the sample, and the how-manieth time (from 0) its list is being gone through."""

    sample: int
    pass_: int


class Order(Protocol):
    """Maps global draw numbers to samples."""

    def draw(self, number: int) -> DrawIndex:
        """The draw of the given global number, from 0."""
        ...


def seed_of(*parts: object) -> int:
    """A 64-bit seed from anything with a stable text: the same on every platform and library version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniform_below(bound: int, *parts: object) -> int:
    """A seeded whole number in [0, bound)."""
    return (seed_of(*parts) * bound) >> 64


def permutation(count: int, seed: int) -> np.ndarray:
    """A seeded (count,) int64 permutation of 0 .. count - 1.

    Sorts the SplitMix64 hashes of the positions (Steele et al. 2014) instead of calling a library's shuffle, whose
    results may change between releases.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.argsort(z, kind="stable")


class StreamOrder:
    """An endless order over samples that lie in shards; every pass takes each sample once.

    In each pass the shards are permuted, and the samples inside each shard; the row of all samples is cut into S
    contiguous blocks, and every stream reads one block from end to end, so it goes through a shard before it turns to
    the next.

    Args:
        shards: (N,) number of the shard each sample lies in.
        streams: S.
        seed: of the order.

    Raises:
        ValueError: when there are no samples or no streams.
    """

    def __init__(self, shards: Sequence[int], streams: int, seed: int) -> None:
        if not len(shards) or streams < 1:
            raise ValueError(f"an order needs samples and streams, got {len(shards)} samples and {streams} streams")
        numbers = np.asarray(shards)
        self.streams = streams
        self.seed = seed
        self._shards = [np.flatnonzero(numbers == shard) for shard in np.unique(numbers)]
        self._count = len(numbers)
        self._pass_order = functools.lru_cache(maxsize=4)(self._compute_pass_order)

    def __len__(self) -> int:
        """Samples in a pass."""
        return self._count

    def draw(self, number: int) -> DrawIndex:
        """The draw of the given global number."""
        pass_, position = divmod(number, self._count)
        row, column = divmod(position, self.streams)
        short, longer = divmod(self._count, self.streams)  # the first `longer` blocks hold one sample more
        block = column * short + min(column, longer)
        return DrawIndex(int(self._pass_order(pass_)[block + row]), pass_)

    def _compute_pass_order(self, pass_: int) -> np.ndarray:
        """(N,) sample numbers of one pass, shard by shard."""
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
    """Several datasets by whole-number weights: of every sum(weights) draws exactly ``weights[d]`` come from d.

    Each dataset keeps an order of its own, so small ones go round more often; which pass a draw belongs to is counted
    in its own dataset.

    Args:
        shards: for each dataset, the shard number of each of its samples; samples are numbered through all datasets.
        weights: a whole number from 1 for each dataset.
        streams: S of the mixture.
        seed: of the order.

    Raises:
        ValueError: when a weight is not a whole number from 1, or their number is not that of the datasets.
    """

    def __init__(self, shards: Sequence[Sequence[int]], weights: Sequence[int], streams: int, seed: int) -> None:
        if len(weights) != len(shards) or any(weight < 1 for weight in weights):
            raise ValueError(f"a mixture of {len(shards)} datasets needs as many weights from 1, got {list(weights)}")
        total = sum(weights)
        self.weights = tuple(weights)
        self._orders = [
            # As many blocks as streams are busy with the dataset at a time: locality only, the order is exact anyway.
            StreamOrder(one, max(1, streams * weight // total), seed_of("dataset", seed, number))
            for number, (one, weight) in enumerate(zip(shards, weights, strict=True))
        ]
        self._first = np.cumsum([0, *(len(one) for one in shards)])
        # Turn i of dataset d stands at (i + 1/2) / weight of the way: as evenly spread as whole numbers allow.
        turns = sorted((d for d, weight in enumerate(weights) for _ in range(weight)), key=lambda d: d)
        places = [(i + 0.5) / weight for weight in weights for i in range(weight)]
        self.pattern = tuple(d for _, d in sorted(zip(places, turns, strict=True)))
        self._before = [self.pattern[:j].count(d) for j, d in enumerate(self.pattern)]

    def __len__(self) -> int:
        """Samples of all datasets."""
        return int(self._first[-1])

    def draw(self, number: int) -> DrawIndex:
        """The draw of the given global number."""
        cycle, place = divmod(number, len(self.pattern))
        dataset = self.pattern[place]
        inner = self._orders[dataset].draw(cycle * self.weights[dataset] + self._before[place])
        return DrawIndex(int(self._first[dataset]) + inner.sample, inner.pass_)


def window_start(seed: int, key: str, pass_: int, frames: int, window: int) -> int:
    """First frame of the window of a clip in one pass; 0 where the clip is no longer than the window.

    Drawn evenly from places that also hang over the clip's ends, then moved inside: were only those drawn that fit, the
    clip's first and last frame would be in one window of all, and a frame in the middle in as many as it has frames.
    At most half of the draws are moved.
    """
    places = max(1, frames - window + 1)
    beyond = min(window - 1, places // 2) if places > 1 else 0
    drawn = uniform_below(places + 2 * beyond, "window", seed, key, pass_) - beyond
    return min(max(drawn, 0), places - 1)


def reference_choice(seed: int, key: str, pass_: int, count: int) -> int:
    """Which of ``count`` stored portraits is x_ref in one pass."""
    return uniform_below(count, "reference", seed, key, pass_)


def reference_clip(seed: int, key: str, pass_: int, count: int) -> int:
    """Which of a speaker's ``count`` clips x_ref is taken from in one pass."""
    return uniform_below(count, "reference clip", seed, key, pass_)


def step_seed(key: str, step: int) -> int:
    """Seed for what is random in a training step (noise, timestep, e_dri): of the sample and the step alone.

    In [0, 2**63), which ``torch.Generator.manual_seed`` takes.
    """
    return seed_of("step", key, step) >> 1
