"""Fingerprints of videos, and the file that tells who is in finished shards (``datamodules.identities``)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.identities import IDENTITIES_NAME
from datamodules.schema import Index
from media import MediaError
from media.archives import open_file
from media.source import identify
from metrics.functional.face_identity import groups_of_people
from preparation.plan import PIECE, Plan
from runtime.files import whole_file

SAMPLE_BYTES = 4096


def fingerprint(path: Path) -> str:
    """Hash of the size of a file and of its beginning, middle and end.

    Raises:
        MediaError, OSError: If it cannot be read.
    """
    path, size, _ = identify(path)
    digest = hashlib.sha256(str(size).encode())
    with open_file(path) as file:
        for place in (0, size // 2, max(0, size - SAMPLE_BYTES)):
            file.seek(place)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def write_identities(output: Path, plan: Plan, index: Index) -> None:
    """Writes ``identities.npz`` of finished shards, with the vectors of a scan where it has some."""
    clips = {clip.key: clip for shard in plan.shards for clip in shard.clips}
    content: dict[str, str] = {}
    known: dict[Path, str] = {}
    people: dict[Path, set[str]] = defaultdict(set)
    for sample in index.samples:
        people[clips[sample.key].path].add(sample.speaker)
    for sample in index.samples:
        clip = clips[sample.key]
        if len(people[clip.path]) > 1:  # as in an interview: the video does not tell who is in a clip of it
            continue
        with suppress(MediaError, OSError):  # the source may have been removed since
            if clip.path not in known:
                known[clip.path] = fingerprint(clip.path)
            content[sample.key] = known[clip.path]
    speakers, vectors = _faces(output, index)
    keys = sorted(content)
    arrays: dict[str, Any] = {
        "keys": np.array(keys, str),
        "content": np.array([content[key] for key in keys], str),
        "speakers": np.array(speakers, str),
        "vectors": np.stack(vectors).astype(np.float16) if vectors else np.zeros((0, 0), np.float16),
    }
    with whole_file(output / IDENTITIES_NAME) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _faces(output: Path, index: Index) -> tuple[list[str], list[np.ndarray]]:
    """Names of speakers and unit vectors, one for each person under that name."""
    rows = _scanned(output)
    of_speaker: dict[str, list[np.ndarray]] = defaultdict(list)
    for sample in sorted(index.samples, key=lambda sample: sample.key):
        vector = rows.get(sample.key.rpartition(PIECE)[0] or sample.key)
        if vector is not None:
            of_speaker[sample.speaker].append(vector)
    speakers: list[str] = []
    vectors: list[np.ndarray] = []
    for speaker, faces in sorted(of_speaker.items()):
        groups = groups_of_people(np.stack(faces))
        for group in range(groups.max() + 1):
            mean = np.stack(faces)[groups == group].mean(0)
            speakers.append(speaker)
            vectors.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    return speakers, vectors


def _scanned(output: Path) -> dict[str, np.ndarray]:
    """Key of a shot, or of the clip that it is alone in -> vector; empty without a scan or vectors."""
    from preparation.scan.scan_clips import read_scan, table_path

    if not table_path(output).is_file():
        return {}
    found: dict[str, np.ndarray] = {}
    table = read_scan(output).select(["key", "clip", "shots", "embedding"])
    for row in table.filter(table["embedding"].is_valid()).to_pylist():
        found[row["clip"] if row["shots"] == 1 else row["key"]] = np.array(row["embedding"], np.float32)
    return found
