"""``prepare.py task=check``: validates shards against their index and the schema.

Checks everything that training relies on: sizes and hashes, members and offsets, shapes, dtypes, finite values, boxes,
sound length, duplicate keys, and speakers that occur in several splits.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from configs.registries import ENCODERS
from datamodules.index_checks import index_problems, is_plain_name
from datamodules.sample_table import SampleEntry
from datamodules.schema import (
    OPTIONAL_MEMBERS,
    REQUIRED_MEMBERS,
    SAMPLES_PER_FRAME,
    SCHEMA_VERSION,
    SPLITS,
    Index,
    ShardEntry,
    array_layout,
)
from datamodules.shards import parse_npy
from datamodules.splits import shares_speakers
from datamodules.staging import DECODED, member_problem
from media import decode_flac
from runtime.errors import first_line
from runtime.files import sha256_of
from runtime.json_text import parse_json

MAX_MEMBER = 1 << 30  # bytes; the largest of a clip of 20 s has 33 MB


def check(folder: Path, on_shard: Callable[[], None] = lambda: None) -> list[str]:
    """Lists every problem in a folder of shards.

    Args:
        folder: Folder that holds ``index.json`` and the shards.
        on_shard: Called after each shard, for a progress bar.

    Returns:
        One line per problem, which names the file. Empty when the folder is valid.

    Raises:
        ShardError: If there is no readable index.
    """
    index = Index.read(folder)
    problems = list(_index_problems(index))
    samples: dict[str, dict[str, SampleEntry]] = defaultdict(dict)
    for sample in index.samples:
        samples[sample.shard][sample.key] = sample
    known = {shard.name for shard in index.shards}
    problems += [f"index.json: shard {name} is used but not listed" for name in samples.keys() - known]
    problems += [
        f"{path.name}: not in index.json; run prepare.py task=merge"
        for path in sorted(folder.glob("*.tar"))
        if path.name not in known
    ]
    for shard in index.shards:
        if not is_plain_name(shard.name):  # reported above, and not opened
            continue
        problems += _shard_problems(folder, index, shard, samples[shard.name])
        on_shard()
    return problems


def _index_problems(index: Index) -> Iterator[str]:
    yield from (f"index.json: {problem}" for problem in index_problems(index))
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in index.samples:
        if sample.split not in SPLITS:
            yield f"index.json: {sample.key} has split {sample.split}, expected one of {', '.join(SPLITS)}"
        splits[sample.speaker].add(sample.split)
    for speaker, found in sorted(splits.items()):
        if len(found) > 1 and not shares_speakers(index.dataset, index.split):
            yield f"index.json: speaker {speaker} is in several splits: {', '.join(sorted(found))}"
    frames = int(index.samples.frames.sum())
    if index.latent.frames != frames:
        yield f"index.json: latent statistics cover {index.latent.frames} frames, the samples have {frames}"
    for kind, identity in index.encoders.items():
        if identity.name not in ENCODERS[kind]:
            yield (
                f"index.json: {kind} encoder {identity.name!r} is not known; expected one of "
                f"{', '.join(ENCODERS[kind].names())}, or name your own on the command line"
            )


def _shard_problems(folder: Path, index: Index, shard: ShardEntry, samples: dict[str, SampleEntry]) -> Iterator[str]:
    path = folder / shard.name
    if not path.is_file():
        yield f"{shard.name}: missing; run its part of prepare.py again"
        return
    size = path.stat().st_size
    if size != shard.bytes:
        yield f"{shard.name}: {size} bytes, expected {shard.bytes} by index.json; it was cut short or changed"
        return
    try:
        if sha256_of(path) != shard.sha256:
            yield f"{shard.name}: sha256 differs from index.json; its content was changed"
    except OSError as error:
        yield f"{shard.name}: cannot be read ({error.strerror})"
        return
    if shard.samples != len(samples):
        yield f"{shard.name}: index.json counts {shard.samples} samples and lists {len(samples)}"
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        with tarfile.open(path, "r:") as tar:  # not compressed: a short file could unpack without end
            if wrong := member_problem(path, _decoded(tar)):
                yield f"{shard.name}: {wrong}; do not read it elsewhere"
                return
            for member in tar:
                yield from _member_problems(shard.name, member, samples)
                if not _is_plain(member):
                    continue
                key, _, name = member.name.partition(".")
                if name in found[key]:
                    yield f"{shard.name}: member {member.name} occurs twice"
                if found.keys() - {key}:  # a sample's members are contiguous, so the previous sample is complete
                    for done in list(found.keys() - {key}):
                        yield from _sample_problems(shard.name, index, samples.pop(done, None), done, found.pop(done))
                extracted = tar.extractfile(member) if member.size <= MAX_MEMBER else None
                found[key][name] = extracted.read() if extracted else b""
    except OSError as error:
        yield f"{shard.name}: cannot be read ({error.strerror})"
        return
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        yield f"{shard.name}: not a readable tar ({first_line(error)})"
        return
    for done, members in found.items():
        yield from _sample_problems(shard.name, index, samples.pop(done, None), done, members)
    for key in samples:
        yield f"{shard.name}: {key} is in index.json but not in the shard"


def _decoded(tar: tarfile.TarFile) -> list[tuple[str, int, int]]:
    """Name, offset and size of the members that FFmpeg would decode."""
    plain = [member for member in tar.getmembers() if _is_plain(member) and 0 < member.size <= MAX_MEMBER]
    decoded = [member for member in plain if member.name.partition(".")[2] in DECODED]
    return [(member.name, member.offset_data, member.size) for member in decoded]


def _member_problems(shard: str, member: tarfile.TarInfo, samples: dict[str, SampleEntry]) -> Iterator[str]:
    if not _is_plain(member):
        kind = "is a link, a device or sparse" if _is_name(member.name) else "is not a plain file name"
        yield f"{shard}: member {member.name!r} {kind}; do not unpack this file"
        return
    key, _, name = member.name.partition(".")
    if member.size > MAX_MEMBER:
        yield f"{shard}: {member.name} has {member.size} bytes, expected at most {MAX_MEMBER}"
    elif name not in (*REQUIRED_MEMBERS, *OPTIONAL_MEMBERS):
        yield f"{shard}: unknown member {member.name}"
    elif key in samples and samples[key].members.get(name) != (member.offset_data, member.size):
        yield f"{shard}: {member.name} has (offset, size) {(member.offset_data, member.size)}, index.json has others"


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file of its own, whose bytes are all in the shard, with a plain name."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse() and _is_name(member.name)


def _is_name(name: str) -> bool:
    parts = PurePosixPath(name)
    return not parts.is_absolute() and len(parts.parts) == 1 and ".." not in parts.parts


def _sample_problems(
    shard: str, index: Index, entry: SampleEntry | None, key: str, members: dict[str, bytes]
) -> Iterator[str]:
    where = f"{shard}: {key}"
    if entry is None:
        yield f"{where} is in the shard but not in index.json"
        return
    missing = [name for name in index.required_members if name not in members]
    if missing:
        yield f"{where} lacks {', '.join(missing)}"
        return
    try:
        meta = parse_json(members["meta.json"])
        arrays = {name: parse_npy(data) for name, data in members.items() if name.endswith(".npy")}
        sound = decode_flac(members["speech.flac"])
        if not isinstance(meta, dict):
            raise ValueError("meta.json is no object")
        labels = {name: meta[name] for name in ("key", "frames", "speaker", "split", "emotion", "level", "view")}
        schema, portrait_frames = int(meta["schema"]), [int(frame) for frame in meta["portrait_frames"]]
    except Exception as error:  # damaged members raise many types; each is a problem of this sample only
        yield f"{where} cannot be decoded ({type(error).__name__}: {first_line(error)})"
        return
    if schema > SCHEMA_VERSION:
        yield f"{where} was written by a newer version (schema {schema}, expected at most {SCHEMA_VERSION})"
    for name, value in labels.items():
        if value != getattr(entry, name):
            yield f"{where} meta.json has {name} {str(value)[:60]}, index.json {getattr(entry, name)}"
    yield from _array_problems(where, index, entry.frames, arrays)
    if len(sound) != entry.frames * SAMPLES_PER_FRAME:
        yield f"{where} speech.flac has {len(sound)} samples, expected {entry.frames * SAMPLES_PER_FRAME}"
    if not all(0 <= frame < entry.frames for frame in portrait_frames):
        yield f"{where} portrait_frames {portrait_frames} lie outside its {entry.frames} frames"


def _array_problems(where: str, index: Index, frames: int, arrays: dict[str, np.ndarray]) -> Iterator[str]:
    for name, (dtype, shape) in array_layout(index.dimensions, frames).items():
        array = arrays.get(name)
        if array is None:  # audio features that are not stored
            continue
        if array.shape != shape or array.dtype != dtype:
            yield f"{where} {name} is {array.dtype}{array.shape}, expected {dtype}{shape}"
        elif dtype != "uint8" and not np.isfinite(array).all():
            yield f"{where} {name} has NaN or infinite values"
    boxes = arrays["boxes.npy"]
    if boxes.shape == (frames, 2, 4) and np.isfinite(boxes).all():
        empty = (boxes[..., 2:] <= boxes[..., :2]).any()
        outside = boxes.min() < 0 or boxes.max() > index.frame_size
        if empty or outside:
            yield f"{where} boxes.npy has {'an empty box' if empty else 'a box outside the frame'}"
