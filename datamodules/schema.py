"""Format of shards: the members of a sample, and the index of the tar files.

A sample is one clip of one speaker, at most 20 s at 25 fps, stored under its key as

    key.meta.json       metadata (``SampleMeta``)
    key.latent.npy      (F, C, h, w)  float16   the codec's unscaled mode
    key.audio.npy       (F, L, D)     float16   audio features of speech.flac; in all samples of an index or in none
    key.lip.npy         (F, d_l)      float32   lip latent, not standardised
    key.expression.npy  (F, d_e)      float32   expression latent, not standardised
    key.boxes.npy       (F, 2, 4)     float32   lip and face boxes x0, y0, x1, y1 in pixels of the crop
    key.portraits.npy   (4, 256, 256, 3) uint8  candidate frames for x_ref; their indices are in meta.json
    key.speech.flac     16 kHz mono, ceil(F * 640) samples
    key.video.mp4       optional: the cropped video, for evaluation
    key.factors.npy     optional: (F, K) float32 true factors of a synthetic clip

Shapes: F frames, C latent channels, h x w latent size, L layers, D audio width, d_l and d_e lip and expression widths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs.preparation import ENCODER_KINDS
from datamodules.sample_table import TABLE_NAME, SampleEntry, SampleTable, TableError
from encoders.protocols import FPS, SAMPLE_RATE, Identity
from runtime.checked_fields import check_count, check_types
from runtime.errors import UserError, first_line
from runtime.files import sha256_of, whole_file, write_whole
from runtime.json_text import parse_json

SCHEMA_VERSION = 1  # of samples
INDEX_SCHEMA = 2  # of index.json; version 1 lists the samples itself
PORTRAITS = 4
PORTRAIT_SIZE = 256
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

INDEX_NAME = "index.json"
REQUIRED_MEMBERS = (
    "meta.json",
    "latent.npy",
    "lip.npy",
    "expression.npy",
    "boxes.npy",
    "portraits.npy",
    "speech.flac",
)
AUDIO_MEMBER = "audio.npy"
OPTIONAL_MEMBERS = (AUDIO_MEMBER, "video.mp4", "factors.npy")
SPLITS = ("train", "val", "test")


class ShardError(UserError):
    """A shard or index that cannot be used."""


@dataclass(frozen=True)
class SampleMeta:
    """Content of a sample's ``meta.json``.

    Attributes:
        key: Unique key of the sample.
        dataset: Name of the dataset.
        split: Split at preparation: train, val or test.
        speaker: Name of the speaker.
        source: Name of the source video.
        start: Start of the clip in the source video in seconds.
        source_fps: Frame rate of the source video.
        frames: Number of frames at 25 fps.
        crop: (left, top, side) of the square crop in pixels of the source video.
        frame_size: Side of the crop after resizing, in pixels.
        portrait_frames: Frame index of each portrait.
        emotion: Emotion label, or None.
        level: Emotion level from 1 to 3, or None.
        view: Camera view, or None.
        factor_names: Column names of ``factors.npy``; empty if there is none.
        enlargement: ``frame_size`` over the side of the crop; above 1 the crop is enlarged. None in shards of before.
        borders: Widths of the black bars left, top, right and bottom in pixels of the source video. None in shards of
            before.
        sound_lag: Frames by which the sound was behind the lips, and was moved back.
        schema: Version of this format.
        latent_precision: Precision of the products that made the latents: float32 or bfloat16.
        latent_error: Measured error of the latents in bfloat16, relative to their root mean square, or None.
    """

    key: str
    dataset: str
    split: str
    speaker: str
    source: str
    start: float
    source_fps: float
    frames: int
    crop: tuple[float, float, float]
    frame_size: int
    portrait_frames: tuple[int, ...]
    emotion: str | None = None
    level: int | None = None
    view: str | None = None
    factor_names: tuple[str, ...] = ()
    enlargement: float | None = None
    borders: tuple[int, int, int, int] | None = None
    sound_lag: int = 0
    schema: int = SCHEMA_VERSION
    latent_precision: str = "float32"
    latent_error: float | None = None


@dataclass(frozen=True)
class ShardEntry:
    """Index entry of a tar file: name, size in bytes, SHA-256, and number of samples."""

    name: str
    bytes: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class Dimensions:
    """Feature sizes shared by all samples of a dataset."""

    latent_channels: int
    latent_size: int
    audio_layers: int
    audio_width: int
    lip_width: int
    expression_width: int


@dataclass(frozen=True)
class LatentStatistics:
    """Per-channel mean and standard deviation of the unscaled latents, and the number of frames they cover."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int


@dataclass(frozen=True)
class Index:
    """Content of ``index.json`` and ``index.arrow``: everything that is needed before a shard is opened.

    Attributes:
        dataset: Name of the dataset.
        preset: Name of the preset it was prepared with.
        frame_size: Side of the square frames in pixels.
        encoders: kind (audio, motion, codec, landmarks) -> encoder identity.
        dimensions: Feature sizes of all samples.
        codec_scale: Factor from stored latents to the diffusion model's latents.
        shards: Entries of the tar files.
        samples: Entries of the samples; any other sequence of entries is converted.
        latent: Statistics of the stored latents.
        split: Name of the split scheme at preparation.
        fps: Frames per second.
    """

    dataset: str
    preset: str
    frame_size: int
    encoders: dict[str, Identity]
    dimensions: Dimensions
    codec_scale: float
    shards: tuple[ShardEntry, ...]
    samples: SampleTable
    latent: LatentStatistics
    split: str = "emotivetalk"
    fps: int = FPS

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", SampleTable.of(self.samples))

    @property
    def required_members(self) -> tuple[str, ...]:
        """Members that every sample has; with the audio features if any sample has them."""
        return (*REQUIRED_MEMBERS, AUDIO_MEMBER) if self.stores_audio else REQUIRED_MEMBERS

    @property
    def stores_audio(self) -> bool:
        """Whether audio features are stored, and not only the sound to make them from."""
        return AUDIO_MEMBER in self.samples.member_names

    def write(self, folder: Path) -> None:
        """Writes ``index.arrow`` with the samples, and ``index.json`` with its hash and everything else.

        Equal indices give equal bytes.
        """
        with whole_file(folder / TABLE_NAME) as partial:
            self.samples.write(partial)
            digest = sha256_of(partial)
        samples = {"count": len(self.samples), "sha256": digest}
        write_whole(folder / INDEX_NAME, _text(self._header() | {"samples": samples, "schema": INDEX_SCHEMA}))

    def to_json(self) -> str:
        """Serialises everything to one JSON text as versions without ``index.arrow`` did, with sorted keys."""
        return _text(self._header() | {"samples": [asdict(sample) for sample in self.samples], "schema": 1})

    def _header(self) -> dict[str, Any]:
        return asdict(replace(self, samples=SampleTable.of(())))

    @classmethod
    def from_json(
        cls, text: str, where: str | Path, open_table: Callable[[str, int], SampleTable] | None = None
    ) -> Index:
        """Parses ``index.json``.

        Args:
            text: Content of the file.
            where: Its path or URL, for messages.
            open_table: Opens ``index.arrow`` next to it; called with its SHA-256 and its number of samples.

        Raises:
            ShardError: If the JSON is damaged, a field is missing or of another type, or the schema version is newer
                than this code.
        """
        try:
            raw = parse_json(text)
        except ValueError as error:
            raise ShardError(f"{where}: not valid JSON ({error}); run prepare.py task=merge again") from error
        found = raw.get("schema") if isinstance(raw, Mapping) else None
        if not isinstance(found, int):
            raise ShardError(f"{where}: has no schema version; it was not written by prepare.py")
        if found > INDEX_SCHEMA:
            raise ShardError(
                f"{where}: written by a newer version (schema {found}, expected at most {INDEX_SCHEMA}); "
                "update emotivetalk"
            )
        try:
            index = cls(
                dataset=raw["dataset"],
                preset=raw["preset"],
                frame_size=raw["frame_size"],
                encoders={kind: Identity(**raw["encoders"][kind]) for kind in ENCODER_KINDS},
                dimensions=Dimensions(**raw["dimensions"]),
                codec_scale=raw["codec_scale"],
                shards=tuple(ShardEntry(**shard) for shard in raw["shards"]),
                samples=_listed(raw["samples"]) if found < 2 else _in_table(raw["samples"], where, open_table),
                latent=LatentStatistics(
                    tuple(raw["latent"]["mean"]), tuple(raw["latent"]["std"]), raw["latent"]["frames"]
                ),
                fps=raw["fps"],
                split=raw["split"],
            )
            check_types(index, "index")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ShardError(
                f"{where}: field {first_line(error)} is missing or malformed; run prepare.py task=merge again"
            ) from error
        return index

    @classmethod
    def read(cls, folder: str | Path) -> Index:
        """Reads ``index.json`` and ``index.arrow`` from a local folder of shards; the latter is memory-mapped.

        Raises:
            ShardError: If one is missing or cannot be used.
        """
        path = Path(folder) / INDEX_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if not Path(folder).is_dir():
                raise ShardError(
                    f"{folder}: no such folder of shards; set the output folder of prepare.py, or run prepare.py first"
                ) from None
            raise ShardError(
                f"{path}: no such file; the shards in {folder} are not finished "
                "(finish all parts of prepare.py, or run prepare.py task=merge)"
            ) from None
        except OSError as error:
            raise ShardError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ShardError(f"{path}: not an index ({error}); run prepare.py task=merge again") from error
        return cls.from_json(text, path, lambda digest, count: _opened(path.with_name(TABLE_NAME), digest, count))


def _opened(path: Path, digest: str, count: int) -> SampleTable:
    try:
        return checked_table(path, sha256_of(path), digest, count, path)
    except OSError as error:
        raise ShardError(
            f"{path}: cannot be read ({error.strerror}); copy it with {INDEX_NAME}, or run prepare.py task=merge"
        ) from error


def checked_table(source: Path | bytes, found: str, digest: str, count: int, where: str | Path) -> SampleTable:
    """Opens the table of samples of an index.

    Args:
        source: File, or its content.
        found: Its SHA-256.
        digest: SHA-256 by ``index.json``.
        count: Number of samples by ``index.json``.
        where: Path or URL, for messages.

    Raises:
        ShardError: If it is damaged, or of another index.
    """
    if found != digest:
        raise ShardError(
            f"{where}: has sha256 {found[:16]}, expected {digest[:16]} by {INDEX_NAME}; the two files are not of one "
            "index: copy both again, or run prepare.py task=merge"
        )
    try:
        table = SampleTable.open(source)
    except TableError as error:
        raise ShardError(f"{where}: not a table of samples ({first_line(error)}); run prepare.py task=merge") from error
    if len(table) != count:
        raise ShardError(f"{where}: has {len(table)} samples, expected {count} by {INDEX_NAME}; run task=merge again")
    return table


def _in_table(raw: Any, where: str | Path, open_table: Callable[[str, int], SampleTable] | None) -> SampleTable:
    """Table of samples that an ``index.json`` of version 2 describes."""
    digest, count = str(raw["sha256"]), check_count("samples.count", raw["count"], most=1 << 40)
    if open_table is None:
        raise ShardError(f"{where}: lists no samples; give the folder that also has {TABLE_NAME}")
    return open_table(digest, count)


def _listed(raw: Any) -> SampleTable:
    """Table of the samples that an ``index.json`` of version 1 lists."""
    entries = []
    for number, sample in enumerate(raw):
        entries.append(sample_entry(sample))
        check_types(entries[-1], f"index.samples[{number}]")
    return SampleTable.of(entries)


def _text(raw: dict[str, Any]) -> str:
    return json.dumps(raw, indent=1, sort_keys=True) + "\n"


def array_layout(dimensions: Dimensions, frames: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Maps each array member of a clip to its type and shape, except for factors (see above)."""
    size = dimensions.latent_size
    return {
        "latent.npy": ("float16", (frames, dimensions.latent_channels, size, size)),
        "audio.npy": ("float16", (frames, dimensions.audio_layers, dimensions.audio_width)),
        "lip.npy": ("float32", (frames, dimensions.lip_width)),
        "expression.npy": ("float32", (frames, dimensions.expression_width)),
        "boxes.npy": ("float32", (frames, 2, 4)),
        "portraits.npy": ("uint8", (PORTRAITS, PORTRAIT_SIZE, PORTRAIT_SIZE, 3)),
    }


def sample_entry(raw: Mapping[str, Any]) -> SampleEntry:
    """Builds a sample entry from its JSON form, which has lists in place of tuples."""
    members = {name: tuple(place) for name, place in raw["members"].items()}
    return SampleEntry(**{**raw, "members": members})


def require_same_encoders(index: Index, wanted: Mapping[str, Identity], where: str | Path) -> None:
    """Checks that shards were made with the experiment's encoders.

    Raises:
        ShardError: If encoders differ; the message names each with its identity in the shards and in the experiment.
    """
    wrong = [
        f"  {kind}: shards have {index.encoders[kind]}, the experiment has {identity}"
        for kind, identity in wanted.items()
        if index.encoders[kind] != identity
    ]
    if wrong:
        raise ShardError(
            f"{where}: shards were made by other encoders than this experiment uses:\n"
            + "\n".join(wrong)
            + "\nPrepare the data again with this experiment's preset, or choose a matching experiment."
        )
