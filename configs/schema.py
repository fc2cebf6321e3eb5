"""The types of every configuration: what Hydra accepts from a YAML file or the command line.

A field marked ``literal`` is a path or a text that a person types; ``command_line.py`` hands it to Hydra untouched,
whatever characters it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


def literal(default: Any = MISSING) -> Any:
    """A field whose value is taken as typed: a path, or words."""
    return field(default=default, metadata={"literal": True})


@dataclass
class EncoderConfig:
    """One frozen encoder: its name and the options that change its output."""

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class EncodersConfig:
    """The four frozen encoders of a preset."""

    landmarks: EncoderConfig = field(default_factory=EncoderConfig)
    audio: EncoderConfig = field(default_factory=EncoderConfig)
    motion: EncoderConfig = field(default_factory=EncoderConfig)
    codec: EncoderConfig = field(default_factory=EncoderConfig)


@dataclass
class DatasetConfig:
    """How a folder of raw videos is read.

    Attributes:
        name: hdtf, mead, folder or synthetic.
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

    name: str = MISSING
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
    dataset: DatasetConfig | None = None
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


@dataclass
class DataConfig:
    """A datamodule over prepared shards.

    Attributes:
        name: hdtf, mead, synthetic, folder or mixture.
        root: folder or URL (``pipe:``, ``s3://``, ``https://``) of the shards.
        roots: for a mixture, name -> folder or URL.
        weights: for a mixture, name -> whole number: how many of every sum(weights) samples come from it; empty for
            in proportion to the clips.
        fields: members each sample carries, e.g. [audio, lip, expression]; ``video`` is there for evaluation only,
            where prepare.py's ``store_video`` kept it (val and test, unless it was ``all``).
        window: frames of a training window.
        pad: true pads shorter clips with a mask (V-AID); false trains them at their own length (ETHD).
        reference: where x_ref of a training window is taken from: its own ``clip`` (the paper's), or any clip of the
            ``speaker``, which shows the network faces whose emotion is not the one to show.
        min_frames: clips shorter than this are left out.
        batch_size: global batch size S, over all ranks.
        steps_per_epoch: length of the virtual epoch.
        workers: loader processes per rank.
        split: ``stored`` for the split written in the shards, or the name of a committed one.
        stage_to: node-local folder shards are copied to before they are read.
        stage_gib: bound on that copy, GiB.
        seed: seed of the training order.
    """

    name: str = MISSING
    root: str | None = literal(None)
    roots: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    fields: list[str] = field(default_factory=lambda: ["audio", "lip", "expression"])
    window: int = 120
    pad: bool = True
    reference: str = "clip"
    min_frames: int = 24
    batch_size: int = 8
    steps_per_epoch: int = 1000
    workers: int = 2
    split: str = "stored"
    stage_to: str | None = literal(None)
    stage_gib: float = 64.0
    seed: int = 0


@dataclass
class FIDConfig:
    """FID.

    Attributes:
        network: inception, or standin: the labelled stand-in of train.py experiment=standin/image, named in weights.
        weights: a file of Inception weights instead of the official one; the value is then labelled unofficial.
        batch_size: frames per forward pass; does not change the value.
    """

    network: str = "inception"
    weights: str | None = literal(None)
    batch_size: int = 32


@dataclass
class FVDConfig:
    """FVD.

    Attributes:
        protocol: a published flavour: stylegan-v, stylegan-v-128f, stylegan-v-128f-subsample8, fvd-comparison,
            videogpt, latentsync or disco.
        network: i3d, or standin: the labelled stand-in of train.py experiment=standin/video, named in weights.
        weights: a file of I3D weights instead of the protocol's official one; labelled unofficial.
        seed: of the random starts of the reference clips.
    """

    protocol: str = "stylegan-v"
    network: str = "i3d"
    weights: str | None = literal(None)
    seed: int = 0


@dataclass
class SyncConfig:
    """Sync-C and Sync-D.

    Attributes:
        mode: reference runs syncnet_python's own lossy steps; fast leaves them out and is not comparable.
        network: syncnet, or standin: the labelled stand-in of train.py experiment=standin/sync, named in weights.
        detector: s3fd, the original's; mediapipe, or with mode=fast sidecar (X.csv beside X.mp4), labelled unofficial.
        weights: a file of SyncNet weights instead of the official one; labelled unofficial.
        detector_weights: the same for S3FD.
        min_track: shorter face tracks are not scored, frames at 25 fps; the original's 100 loses most of MEAD.
        min_face: faces must be larger, pixels.
        ffmpeg: the program of mode=reference; null for the one on the search path.
    """

    mode: str = "reference"
    network: str = "syncnet"
    detector: str = "s3fd"
    weights: str | None = literal(None)
    detector_weights: str | None = literal(None)
    min_track: int = 50
    min_face: float = 100.0
    ffmpeg: str | None = literal(None)


@dataclass
class EFIDConfig:
    """E-FID.

    Attributes:
        network: deep3d (Deep3DFaceRecon, E-FID proper), 3ddfa (3DDFA_V2, a labelled stand-in) or standin: that of
            train.py experiment=standin/expression, named in weights.
        landmarks: detector for the network's own, or sidecar: X.csv beside X.mp4, as OpenFace writes it.
        weights: a file of the network's weights instead of the published one; labelled unofficial.
        batch_size: faces per forward pass; does not change the value.
    """

    network: str = "deep3d"
    landmarks: str = "detector"
    weights: str | None = literal(None)
    batch_size: int = 16


@dataclass
class CellConfig:
    """Which cell of the paper's tables a result is for; it belongs to none while ``system`` is empty.

    Attributes:
        system: emotivetalk, sadtalker, anitalker, aniportrait, hallo, pdfgc, styletalk, dreamtalk or any other name.
        dataset: hdtf, mead, or any other name: one block of a table.
        mode: A (driven by audio alone), A+V (by audio and the paired video), or control (bounds a metric, e.g. a still
            image, and competes with nobody).
        variant: full, an ablation (wo_lip, wo_exp, no_decouple) or a length (120_frames, ..., 1500_frames).
        run: tells runs with other seeds apart; three or more give an interval.
    """

    system: str | None = literal(None)
    dataset: str | None = literal(None)
    mode: str | None = literal(None)
    variant: str = literal("full")
    run: int = 0


@dataclass
class EvaluateConfig:
    """``evaluate.py``.

    Attributes:
        generated: folder of generated videos, subfolders included.
        reference: folder of real videos; paired with the generated ones by name without ending.
        output: the results file, .json.
        metrics: any of fid, fvd, sync, efid.
        protocol: the named set of choices in ``configs/protocol``.
        fps: frames per second at which both sides are compared.
        crop: panel of the generated frames that holds the result, as x, y, width, height in pixels; null for all.
        offset: generated frame k shows what frame k + offset of the reference shows, frames at ``fps``.
        max_gap: the two videos of a pair may differ by this much in length, seconds; the longer one is trimmed.
        allow_missing: exit with 0 although videos are missing or failed.
        device: auto, cpu or cuda.
        bootstrap: resamples of the clips behind each interval; 0 for none.
        seed: of those resamples.
        cache: folder of the reference side's features; null for the user's cache folder.
        drift: also give every metric per window of this many seconds, with its slope over time; null for not.
        cell: the cell of the paper's tables this result is for.
    """

    generated: str = literal()
    reference: str = literal()
    output: str = literal()
    metrics: list[str] = field(default_factory=lambda: ["fid", "fvd", "sync", "efid"])
    protocol: str = MISSING
    fps: float = 25.0
    crop: list[int] | None = None
    offset: int = 0
    max_gap: float = 0.5
    allow_missing: bool = False
    device: str = "auto"
    bootstrap: int = 100
    seed: int = 0
    cache: str | None = literal(None)
    drift: float | None = None
    fid: FIDConfig = field(default_factory=FIDConfig)
    fvd: FVDConfig = field(default_factory=FVDConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    efid: EFIDConfig = field(default_factory=EFIDConfig)
    cell: CellConfig = field(default_factory=CellConfig)


def register() -> None:
    """Puts the schemas where Hydra's defaults lists find them."""
    from configs.app import AppConfig  # built on the schemas here
    from configs.emotion import EmotionModelConfig
    from configs.generate import ExportConfig, GenerateConfig
    from configs.standin import StandInConfig
    from configs.systems import RunSystemConfig
    from configs.tables import TableConfig
    from configs.training import EthdConfig, TrainConfig, VAIDConfig

    store = ConfigStore.instance()
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="train_schema", node=TrainConfig)
    store.store(group="model", name="vaid_schema", node=VAIDConfig)
    store.store(group="model", name="ethd_schema", node=EthdConfig)
    store.store(group="model", name="emotion_schema", node=EmotionModelConfig)
    store.store(group="model", name="standin_schema", node=StandInConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="generate_schema", node=GenerateConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="app_schema", node=AppConfig)
    store.store(name="systems_schema", node=RunSystemConfig)
    store.store(name="tables_schema", node=TableConfig)
