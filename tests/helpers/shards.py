"""Writes small valid shards of noise, without the project's own writer."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from datamodules.sample_table import SampleEntry
from datamodules.schema import Dimensions, Index, LatentStatistics, SampleMeta, ShardEntry
from encoders.protocols import Identity
from tests.helpers.sound import write_sound
from tests.helpers.videos import encode_frames

TINY = Dimensions(latent_channels=4, latent_size=4, audio_layers=2, audio_width=3, lip_width=5, expression_width=6)
NAMES = {"audio": "mel", "motion": "landmarks", "codec": "patch", "landmarks": "sidecar"}
ENCODERS = {kind: Identity(name) for kind, name in NAMES.items()}
EMOTIONS = ("happy", "sad", None)


def arrays_of(key: str, frames: int, dims: Dimensions, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of a sample; the first number of row f of lip and expression is f."""
    noise = np.random.default_rng([seed, *key.encode()])
    size = dims.latent_size
    arrays = {
        "latent.npy": noise.standard_normal((frames, dims.latent_channels, size, size)).astype(np.float16),
        "audio.npy": noise.standard_normal((frames, dims.audio_layers, dims.audio_width)).astype(np.float16),
        "lip.npy": noise.standard_normal((frames, dims.lip_width)).astype(np.float32),
        "expression.npy": noise.standard_normal((frames, dims.expression_width)).astype(np.float32),
        "boxes.npy": (noise.uniform(0, 14, (frames, 2, 4)) + [0, 0, 16, 16]).astype(np.float32),
        "portraits.npy": noise.integers(0, 256, (4, 1, 1, 3), dtype=np.uint8).repeat(256, 1).repeat(256, 2),
        "factors.npy": noise.standard_normal((frames, 3)).astype(np.float32),
    }
    arrays["lip.npy"][:, 0] = arrays["expression.npy"][:, 0] = np.arange(frames)
    return arrays


def ramp(frames: int) -> np.ndarray:
    """Speech whose sample s is s modulo 2**15, int16."""
    return (np.arange(frames * 640) % 2**15).astype(np.int16)


def flac(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    write_sound(out, samples[None].astype(np.float32) / 2**15, 16_000, "flac", "flac")
    return out.getvalue()


def mp4(noise: np.random.Generator, frames: int, size: int = 32) -> bytes:
    """Encodes a small square of one colour that moves over another."""
    ground, ink = noise.integers(0, 256, (2, 3))
    pictures = np.full((frames, size, size, 3), ground, np.uint8)
    for number, picture in enumerate(pictures):
        picture[8:20, number % 20 : number % 20 + 10] = ink
    out = io.BytesIO()
    encode_frames(out, pictures, format="mp4")
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def make_shards(
    folder: Path,
    *,
    samples: int = 12,
    shards: int = 3,
    frames: Sequence[int] = (40, 50, 60),
    dims: Dimensions = TINY,
    seed: int = 0,
    dataset: str = "folder",
    splits: Sequence[str] = ("train",),
    speech: bool = True,
    video: bool = False,
) -> Index:
    """Writes ``shards`` tar files with ``samples`` samples in total, and their index.

    Sample i has the key ``clip_i``, frames[i % len(frames)] frames, the split splits[i % len(splits)] and a speaker of
    its own split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, shard_entries = [], []
    for number, places in enumerate(np.array_split(np.arange(samples), shards)):
        path = folder / f"{dataset}-{number:05d}.tar"
        members: dict[str, dict[str, tuple[int, int]]] = {}
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in map(int, places):
                key, count, split = f"clip_{i:04d}", frames[i % len(frames)], splits[i % len(splits)]
                meta = SampleMeta(
                    key, dataset, split, f"{split}_{i % 2}", f"{key}.mp4", 0.0, 25.0, count, (0, 0, 32), 32,
                    portrait_frames=(1, 7, count // 2, count - 1), emotion=EMOTIONS[i % 3], level=1 + i % 3,
                    factor_names=("a", "b", "c"),
                )  # fmt: skip
                data = {"meta.json": json.dumps(asdict(meta)).encode()}
                data |= {name: npy(array) for name, array in arrays_of(key, count, dims, seed).items()}
                data["speech.flac"] = flac(ramp(count)) if speech else b""
                if video:
                    data["video.mp4"] = mp4(np.random.default_rng(i), count)
                for name, content in data.items():
                    info = tarfile.TarInfo(f"{key}.{name}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                    # Content is padded to blocks of 512 bytes, and the tar is positioned at their end now.
                    members.setdefault(key, {})[name] = (tar.offset - -(-len(content) // 512) * 512, len(content))
                entries.append(
                    SampleEntry(key, path.name, count, meta.speaker, split, members[key], meta.emotion, meta.level)
                )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        shard_entries.append(ShardEntry(path.name, path.stat().st_size, digest, len(places)))
    channels = dims.latent_channels
    statistics = LatentStatistics((0.0,) * channels, (1.0,) * channels, sum(entry.frames for entry in entries))
    index = Index(dataset, "tiny", 32, ENCODERS, dims, 1.0, tuple(shard_entries), tuple(entries), statistics)
    (folder / "index.json").write_text(index.to_json(), encoding="utf-8")
    return index


def make_codec_shards(folder: Path) -> Path:
    """Writes shards of one length whose latents have the shape of codec patch."""
    dims = replace(TINY, latent_channels=48, latent_size=8)
    index = make_shards(folder, samples=8, shards=1, frames=(30,), splits=("train", "train", "val"), dims=dims)
    index = change_index(folder, encoders={**index.encoders, "codec": Identity("patch", {"patch": 4})})
    assert Index.read(folder) == index
    return folder


def change_index(folder: Path, **changes) -> Index:
    """Changes fields in the index of finished shards."""
    index = replace(Index.read(folder), **changes)
    (folder / "index.json").write_text(index.to_json(), encoding="utf-8")
    return index
