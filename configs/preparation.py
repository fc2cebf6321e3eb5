"""Schemas of ``prepare.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.fields import MISSING, at_least, choice, literal, part, positive, registered, rule, share
from configs.registries import DATASETS, ENCODERS

Device = Literal["auto", "cpu", "cuda", "mps"]
Landmarks = Literal["mediapipe", "sidecar"]
PRESETS = ("tiny", "small", "paper")
ENCODER_KINDS = ("audio", "motion", "codec", "landmarks")
MAX_SECONDS = 20.0  # of a clip; longer ones are cut


@dataclass
class EncoderConfig:
    """One frozen encoder: its name, and the options that affect its output."""

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class EncodersConfig:
    """The four frozen encoders of a preset."""

    landmarks: EncoderConfig = registered(ENCODERS["landmarks"], EncoderConfig)
    audio: EncoderConfig = registered(ENCODERS["audio"], EncoderConfig)
    motion: EncoderConfig = registered(ENCODERS["motion"], EncoderConfig)
    codec: EncoderConfig = registered(ENCODERS["codec"], EncoderConfig)


@dataclass
class DatasetConfig:
    """Dataset: how a folder of raw videos is read.

    Attributes:
        name: hdtf, mead, voxceleb2, celebv_hq, talkinghead_1kh, vfhq, folder, manifest, synthetic, or the dotted path
            of your own ``Dataset``.
        annotations: Folder of HDTF's ``*_annotion_time.txt`` files, to cut and crop raw downloads; or
            ``celebvhq_info.json``, for the emotions of CelebV-HQ.
        list_file: List of the clips of dataset=manifest: a CSV, JSON Lines or Parquet file.
        views: MEAD cameras to keep; empty for all.
        speaker: Who speaks in a clip of dataset=folder: the number of a folder below the source, from 1, or a regular
            expression over the path; null for the innermost folder, or the name without its number.
        split: Name of the split: ``emotivetalk`` (by person), ``peer`` (EDTalk's lists), ``official`` (MEAD's),
            ``person`` (by a hash of the speaker, any dataset), ``time`` (the end of each speaker's clips or of one long
            video is held out, any dataset), ``train``.
        known: Folders of finished shards; task=encode gives their people the same sides. They are known by video, and
            by the face where the weights of ArcFace are.
        identities: Number of synthetic speakers.
        clips_per_identity: Clips of each synthetic speaker, distributed over emotions and levels.
        seconds: Length of a synthetic clip, at least 1, which a sentence takes.
        size: Side of the synthetic videos, pixels.
        layout: Folder layout of the synthetic dataset, mead or hdtf.
        seed: Seed of the synthetic dataset.
    """

    name: str = registered(DATASETS, "", also=("",))
    annotations: str | None = literal(None)
    list_file: str | None = literal(None)
    views: list[str] = field(default_factory=list)
    speaker: str | None = literal(None)
    split: str = "emotivetalk"
    known: list[str] = field(default_factory=list)
    identities: int = positive(12)
    clips_per_identity: int = positive(24)
    seconds: float = at_least(5.0, 1.0)
    size: int = positive(128)
    layout: str = choice("mead", "mead", "hdtf")
    seed: int = at_least(0, 0)


@dataclass
class AudioConfig:
    """Requirements on the sound of a clip.

    Attributes:
        required: Reject clips without sound; false stores silence instead.
        max_mismatch: Maximum difference in length of sound and picture, seconds.
        correct_lag: Largest lag of the sound behind or ahead of the lips that task=encode corrects, frames; 0 for none.
            The lag is SyncNet's where its weights were there, else that of the lips' motion where it is certain.
        silence_db: Level in dBFS. A clip whose loudest second (RMS) is below it counts as silent.
    """

    required: bool = True
    max_mismatch: float = positive(0.08)
    correct_lag: int = rule(5, lambda value: 0 <= value <= 15, "0 to 15 frames")
    silence_db: float = rule(-60.0, lambda value: value <= 0, "a level in dBFS, e.g. -60")


@dataclass
class FaceConfig:
    """Requirements on the face of a clip, and its crop.

    Attributes:
        scale: Side of the square crop, relative to the longer side of the union of the face boxes.
        box_scale: Expansion of the lip and face boxes about their centres.
        min_size: Minimum size of a face box, pixels of the source video; null for a quarter of frame_size.
        max_missing: Maximum share of frames without a detected face.
        max_gap: Maximum number of consecutive frames without a detected face.
        max_several: Maximum share of checked frames with a second face.
        max_outside: Maximum share of a face box outside the picture.
    """

    scale: float = at_least(1.7, 1, ", or the crop would cut the face")
    box_scale: float = at_least(1.2, 1, ", or the crop would cut the face")
    min_size: int | None = positive(None)
    max_missing: float = share(0.1)
    max_gap: int = at_least(12, 0)
    max_several: float = share(0.2)
    max_outside: float = share(0.1)


@dataclass
class PrepareConfig:
    """Configuration of ``prepare.py``.

    Attributes:
        task: prepare, merge, check or weights; or in three steps: scan (measure the videos), choose (apply ``select``
            to the scan) and encode (prepare the chosen shots); all scans, chooses and encodes.
        source: Folder of raw videos; not needed with dataset=synthetic.
        output: Folder of the shards.
        part: ``i/n``: the i-th of n parts, i from 1; ``1/1`` is everything.
        workers: Number of processes that decode, track and crop; null for one per CPU core.
        device: Device of the encoders: auto, cpu, cuda or mps.
        devices: Devices that get an encoder process each, e.g. [cuda:0,cuda:1]; empty for all GPUs. On the CPU, worker
            processes encode their own clips unless this names it.
        precision: Precision of the codec's products: float32 or bfloat16.
        latent_tolerance: Largest error of latents in bfloat16, relative to their root mean square. Clips with a larger
            one are encoded in float32.
        shard_bytes: Target size of a shard, bytes.
        max_rejected: Maximum share of rejected clips. A larger share, and any failed clip, ends with exit status
            3.
        min_frames: Minimum length of a clip, frames at 25 fps. Shorter clips are rejected.
        max_seconds: Maximum length of a clip, at most 20. Longer clips are cut into equal pieces.
        clip_timeout: Time limit for a clip, seconds. A clip that takes longer counts as failed.
        networks: Optional networks of a scan, used if their weights are there: arcface (who is who) and syncnet
            (agreement of lips and sound).
        select: Condition on the columns of a scan (docs/data.md) that chosen shots meet; empty for all.
        retry: Whether clips that failed are tried again even if their files have not changed.
        store_audio: Whether audio features are stored; false leaves them to ``data.audio=encoded`` of a training.
        store_video: Splits whose pixels are stored in the shards: none, test (val and test) or all.
    """

    task: str = choice("prepare", "prepare", "all", "scan", "choose", "encode", "merge", "check", "weights")
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    preset: str = choice(MISSING, *PRESETS, "metrics")
    source: str | None = literal(None)
    output: str | None = literal(None)
    part: str = part()
    workers: int | None = positive(None)
    device: str = choice("auto", Device)
    devices: list[str] = field(default_factory=list)
    precision: str = choice("float32", "float32", "bfloat16")
    latent_tolerance: float = positive(0.02)
    frame_size: int = rule(
        MISSING, lambda value: value > 0 and value % 8 == 0, "a multiple of 8, which every codec needs"
    )
    encoders: EncodersConfig = field(default_factory=EncodersConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    face: FaceConfig = field(default_factory=FaceConfig)
    shard_bytes: int = positive(512_000_000)
    max_rejected: float = share(0.5)
    min_frames: int = positive(24)
    max_seconds: float = rule(20.0, lambda value: 0 < value <= MAX_SECONDS, f"more than 0 and at most {MAX_SECONDS:g}")
    clip_timeout: float = positive(600.0)
    networks: list[str] = choice(["arcface", "syncnet"], "arcface", "syncnet")
    select: str = literal("")
    retry: bool = False
    store_audio: bool = True
    store_video: str = choice("test", "none", "test", "all")
