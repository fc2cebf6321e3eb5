"""The types of ``prepare.py``'s configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from configs.fields import MISSING, literal, registered
from configs.registries import DATASETS, ENCODERS

ENCODER_KINDS = ("audio", "motion", "codec", "landmarks")
MAX_SECONDS = 20.0  # of a clip: longer ones are cut


@dataclass
class EncoderConfig:
    """One frozen encoder: its name and the options that change its output."""

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class EncodersConfig:
    """The four frozen encoders of a preset."""

    landmarks: EncoderConfig = registered(ENCODERS["landmarks"], default_factory=EncoderConfig)
    audio: EncoderConfig = registered(ENCODERS["audio"], default_factory=EncoderConfig)
    motion: EncoderConfig = registered(ENCODERS["motion"], default_factory=EncoderConfig)
    codec: EncoderConfig = registered(ENCODERS["codec"], default_factory=EncoderConfig)


@dataclass
class DatasetConfig:
    """How a folder of raw videos is read.

    Attributes:
        name: hdtf, mead, folder, synthetic, or the dotted path of a ``Dataset`` of one's own.
        annotations: folder of HDTF's ``*_annotion_time.txt`` files, to cut and crop raw downloads.
        views: MEAD cameras to keep; empty for all.
        split: name of the split: ``emotivetalk`` (by person), ``peer`` (EDTalk's lists), ``official`` (MEAD's),
            ``person`` (by a hash of the speaker, any dataset), ``train``.
        identities: speakers the synthetic dataset makes.
        clips_per_identity: clips of each, spread over emotions and levels.
        seconds: length of each synthetic clip.
        size: pixels of the synthetic videos.
        layout: folder layout the synthetic dataset is written in, mead or hdtf.
        seed: seed of the synthetic world.
    """

    name: str = registered(DATASETS, default="")
    annotations: str | None = literal(None)
    views: list[str] = field(default_factory=list)
    split: str = "emotivetalk"
    identities: int = 12
    clips_per_identity: int = 24
    seconds: float = 5.0
    size: int = 128
    layout: str = "mead"
    seed: int = 0


@dataclass
class AudioConfig:
    """What a clip's sound must be.

    Attributes:
        required: reject clips without sound; false stores silence instead.
        max_mismatch: largest allowed difference of sound and picture length, seconds.
        silence_db: a clip whose loudest second (RMS) lies below this is silent, dBFS.
    """

    required: bool = True
    max_mismatch: float = 0.08
    silence_db: float = -60.0


@dataclass
class FaceConfig:
    """Which clips show one whole face, and how it is cropped.

    Attributes:
        scale: side of the square crop over the longer side of the union of the face boxes.
        box_scale: expansion of the lip and face boxes about their centres.
        min_size: smallest face box, pixels of the source video; null for a quarter of frame_size.
        max_missing: largest share of frames without a detected face.
        max_gap: longest run of frames without a detected face.
        max_several: largest share of checked frames with a second face.
        max_outside: largest part of a face box outside the picture.
    """

    scale: float = 1.7
    box_scale: float = 1.2
    min_size: int | None = None
    max_missing: float = 0.1
    max_gap: int = 12
    max_several: float = 0.2
    max_outside: float = 0.1


@dataclass
class PrepareConfig:
    """``prepare.py``.

    Attributes:
        task: prepare, merge, check or weights.
        source: folder of raw videos; not needed by dataset=synthetic.
        output: folder of the shards.
        part: ``i/n``: do the i-th of n parts, i from 1; ``1/1`` is everything.
        workers: processes; null for one per CPU core (one per GPU when encoding on a GPU).
        device: where encoders run: auto, cpu, cuda.
        shard_bytes: size aimed at per shard, bytes.
        max_rejected: exit with status 3 when a larger share of the clips was not kept.
        min_frames: shorter clips are rejected, frames at 25 fps.
        max_seconds: longer clips are cut into equal pieces, at most 20.
        clip_timeout: a clip that takes longer counts as failed, seconds.
        store_video: which splits keep their pixels in the shards: none, test (val and test) or all.
    """

    task: str = "prepare"
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    preset: str = MISSING
    source: str | None = literal(None)
    output: str | None = literal(None)
    part: str = "1/1"
    workers: int | None = None
    device: str = "auto"
    frame_size: int = MISSING
    encoders: EncodersConfig = field(default_factory=EncodersConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    face: FaceConfig = field(default_factory=FaceConfig)
    shard_bytes: int = 512_000_000
    max_rejected: float = 0.5
    min_frames: int = 24
    max_seconds: float = 20.0
    clip_timeout: float = 600.0
    store_video: str = "test"
