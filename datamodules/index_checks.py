"""Checks of an index before any shard is opened: names, offsets, and numbers that training would use without a word."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

import numpy as np

from datamodules.sample_table import SampleEntry
from datamodules.schema import OPTIONAL_MEMBERS, REQUIRED_MEMBERS, Index, ShardError, array_layout
from encoders.protocols import FPS

TAR_BLOCK = 512
ROWS_AT_ONCE = 1 << 12  # samples whose numbers are compared together
MAX_SIDE = 1 << 14  # pixels of a frame
MAX_SIZE = 1 << 20  # of any width of features, and frames of a clip
SCALES = (1e-6, 1e6)  # of latents; those of known codecs are between 0.1 and 2
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KEY_CHARACTERS = (string.ascii_letters + string.digits + "_-").encode()
_KNOWN = {*REQUIRED_MEMBERS, *OPTIONAL_MEMBERS}


def check_index(index: Index, where: str) -> None:
    """Checks that an index is consistent, that its file names are safe, and its numbers possible.

    Raises:
        ShardError: If not; the message names the first invalid entry.
    """
    for problem in index_problems(index):
        raise ShardError(f"{where}: {problem}")


def is_plain_name(name: str) -> bool:
    """Whether a name of a shard is that of a file in its own folder."""
    return _PLAIN_NAME.fullmatch(name) is not None


def index_problems(index: Index) -> Iterator[str]:
    """Yields one line for everything that is wrong with an index itself; shards are not opened."""
    yield from _numbers(index)
    sizes = {shard.name: shard.bytes for shard in index.shards}
    for shard in index.shards:
        if not is_plain_name(shard.name):
            yield f"shard name {shard.name!r} is not a plain file name; run prepare.py task=merge again"
        if not re.fullmatch("[0-9a-f]{64}", shard.sha256) or shard.bytes < 0 or shard.samples < 0:
            yield f"shard {shard.name!r} has {shard.bytes} bytes, {shard.samples} samples and sha256 {shard.sha256!r}"
    if len(sizes) < len(index.shards):
        yield "lists a shard twice; run prepare.py task=merge again"
    repeated = index.samples.repeated_keys()
    yield from (f"sample key {key} occurs twice; run prepare.py task=check" for key in repeated)
    for first in range(0, len(index.samples), ROWS_AT_ONCE):
        for row in np.flatnonzero(_suspect(index, sizes, first, min(first + ROWS_AT_ONCE, len(index.samples)))):
            yield from _sample(index, index.samples[first + int(row)], sizes)


def _numbers(index: Index) -> Iterator[str]:
    """Numbers that scale or cut all data."""
    low, high = SCALES
    if not low <= index.codec_scale <= high:
        yield f"codec_scale is {index.codec_scale}, expected a number from {low:g} to {high:g}"
    if index.fps != FPS:
        yield f"fps is {index.fps}, expected {FPS}; prepare the data again"
    if not 1 <= index.frame_size <= MAX_SIDE:
        yield f"frame_size is {index.frame_size}, expected 1 to {MAX_SIDE} pixels"
    for name, size in vars(index.dimensions).items():
        if not 1 <= size <= MAX_SIZE:
            yield f"dimensions.{name} is {size}, expected 1 to {MAX_SIZE}"
    channels = index.dimensions.latent_channels
    for name, values in (("mean", index.latent.mean), ("std", index.latent.std)):
        if len(values) != channels:
            yield f"latent.{name} has {len(values)} channels, expected {channels}"
        if any(abs(value) > high for value in values):
            yield f"latent.{name} has values beyond {high:g}"
    if any(value <= 0 for value in index.latent.std):
        yield "latent.std has values that are not positive: a channel of the latents is constant or damaged"
    if index.latent.frames < 1:
        yield f"latent.frames is {index.latent.frames}, expected at least 1"


def _suspect(index: Index, sizes: dict[str, int], first: int, last: int) -> np.ndarray:
    """(last - first,) bool: samples in which ``_sample`` may find something. Columns are compared at once."""
    samples, layout = index.samples, array_layout(index.dimensions, 1)
    frames = samples.frames[first:last]
    wrong = ~samples.keys_have_only(_KEY_CHARACTERS, first, last) | (frames < 1) | (frames > MAX_SIZE)
    codes, names = samples.label_codes("shard")
    bounds = np.array([sizes.get(name, -1) for name in names], np.int64)[codes[first:last]]
    wrong |= bounds < 0
    places, of = samples.members_of(first, last)
    name, offset, size = samples.member_name[places], samples.offset[places], samples.size[places]
    bound = bounds[of]
    odd = (offset < TAR_BLOCK) | (size < 0) | (size > bound) | (offset > bound - size)
    for code, member in enumerate(samples.member_names):
        here = name == code
        if member not in _KNOWN:
            odd |= here
        elif member in layout:
            rows = frames[of[here]] if member != "portraits.npy" else 1
            odd[here] |= size[here] < _bytes(*layout[member]) * np.clip(rows, 0, MAX_SIZE).astype(np.float64)
    wrong[of[odd]] = True
    for member in index.required_members:
        has = np.zeros(last - first, bool)
        if member in samples.member_names:
            has[of[name == samples.member_names.index(member)]] = True
        wrong |= ~has
    return wrong


def _sample(index: Index, sample: SampleEntry, sizes: dict[str, int]) -> Iterator[str]:
    if not _KEY.fullmatch(sample.key):
        yield f"sample key {sample.key!r}: expected only letters, digits, _ and -"
    if not 1 <= sample.frames <= MAX_SIZE:
        yield f"sample {sample.key} has {sample.frames} frames, expected 1 to {MAX_SIZE}"
        return
    if sample.shard not in sizes:
        yield f"sample {sample.key} is in shard {sample.shard!r}, which the index does not list"
        return
    if missing := [name for name in index.required_members if name not in sample.members]:
        yield f"sample {sample.key} has no {missing[0]}; prepare the data again"
    arrays = array_layout(index.dimensions, sample.frames)
    for name, (offset, size) in sample.members.items():
        if name not in _KNOWN:
            yield f"sample {sample.key}: unknown member {name!r}; expected {sorted(_KNOWN)}"
        elif offset < TAR_BLOCK or size < 0 or offset + size > sizes[sample.shard]:
            yield (
                f"{sample.key}.{name} is at bytes {offset} to {offset + size} of {sample.shard}, which has "
                f"{sizes[sample.shard]} bytes; run prepare.py task=merge again"
            )
        elif name in arrays and size < (need := _bytes(*arrays[name])):
            yield f"{sample.key}.{name} has {size} bytes, {sample.frames} frames need {need}; run prepare.py task=check"


def _bytes(kind: str, shape: tuple[int, ...]) -> int:
    return np.dtype(kind).itemsize * int(np.prod(shape, dtype=object))
