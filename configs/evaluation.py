"""The types of ``evaluate.py``'s configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.fields import MISSING, at_least, choice, literal, number, one_of, panel, positive, registered, rule
from configs.loggers import ScoreLoggerConfig
from configs.preparation import Device
from configs.registries import METRICS

SyncMode = Literal["reference", "fast"]
FVD_PROTOCOLS = (
    "stylegan-v",
    "stylegan-v-128f",
    "stylegan-v-128f-subsample8",
    "fvd-comparison",
    "videogpt",
    "latentsync",
    "disco",
)


@dataclass
class FIDConfig:
    """FID.

    Attributes:
        network: inception, or proxy: the labelled proxy of train.py experiment=proxy/image, named in weights.
        weights: a file of Inception weights instead of the official one; the value is then labelled unofficial.
        batch_size: frames per forward pass; does not change the value.
    """

    network: str = choice("inception", "inception", "proxy")
    weights: str | None = literal(None)
    batch_size: int = positive(32)


@dataclass
class FVDConfig:
    """FVD.

    Attributes:
        protocol: a published flavour: stylegan-v, stylegan-v-128f, stylegan-v-128f-subsample8, fvd-comparison,
            videogpt, latentsync or disco.
        network: i3d, or proxy: the labelled proxy of train.py experiment=proxy/video, named in weights.
        weights: a file of I3D weights instead of the protocol's official one; labelled unofficial.
        seed: of the random starts of the reference clips.
    """

    protocol: str = choice("stylegan-v", *FVD_PROTOCOLS)
    network: str = choice("i3d", "i3d", "proxy")
    weights: str | None = literal(None)
    seed: int = at_least(0, 0)


@dataclass
class SyncConfig:
    """Sync-C and Sync-D.

    Attributes:
        mode: reference runs syncnet_python's own lossy steps; fast leaves them out and is not comparable.
        network: syncnet, or proxy: the labelled proxy of train.py experiment=proxy/sync, named in weights.
        detector: s3fd, the original's; mediapipe, or with mode=fast sidecar (X.csv beside X.mp4), labelled unofficial.
        weights: a file of SyncNet weights instead of the official one; labelled unofficial.
        detector_weights: the same for S3FD.
        min_track: shorter face tracks are not scored, frames at 25 fps; the original's 100 loses most of MEAD.
        min_face: faces must be larger, pixels.
        ffmpeg: the program of mode=reference; null for the one on the search path.
    """

    mode: str = choice("reference", SyncMode)
    network: str = choice("syncnet", "syncnet", "proxy")
    detector: str = choice("s3fd", "s3fd", "mediapipe", "sidecar")
    weights: str | None = literal(None)
    detector_weights: str | None = literal(None)
    min_track: int = positive(50)
    min_face: float = at_least(100.0, 0)
    ffmpeg: str | None = literal(None)


@dataclass
class EFIDConfig:
    """E-FID.

    Attributes:
        network: deep3d (Deep3DFaceRecon, E-FID proper), 3ddfa (3DDFA_V2, a labelled proxy) or proxy: that of
            train.py experiment=proxy/expression, named in weights.
        landmarks: detector for the network's own, or sidecar: X.csv beside X.mp4, as OpenFace writes it.
        weights: a file of the network's weights instead of the published one; labelled unofficial.
        batch_size: faces per forward pass; does not change the value.
    """

    network: str = choice("deep3d", "deep3d", "3ddfa", "proxy")
    landmarks: str = choice("detector", "detector", "sidecar")
    weights: str | None = literal(None)
    batch_size: int = positive(16)


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
    mode: str | None = literal(None, one_of("A", "A+V", "control"))
    variant: str = literal("full")
    run: int = at_least(0, 0)


@dataclass
class EvaluateConfig:
    """``evaluate.py``.

    Attributes:
        generated: folder of generated videos, subfolders included.
        reference: folder of real videos; paired with the generated ones by name without ending.
        output: the results file, .json.
        metrics: any of fid, fvd, sync, efid, and dotted paths of metrics of one's own.
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
        logger: Loggers besides the results file.
    """

    generated: str = literal()
    reference: str = literal()
    output: str = literal()
    metrics: list[str] = registered(METRICS, ["fid", "fvd", "sync", "efid"])
    protocol: str = MISSING
    fps: float = positive(25.0)
    crop: list[int] | None = panel()
    offset: int = number(0)
    max_gap: float = positive(0.5)
    allow_missing: bool = False
    device: str = choice("auto", Device)
    bootstrap: int = rule(100, lambda value: value == 0 or value >= 2, "0, or at least 2 resamples")
    seed: int = at_least(0, 0)
    cache: str | None = literal(None)
    drift: float | None = positive(None)
    fid: FIDConfig = field(default_factory=FIDConfig)
    fvd: FVDConfig = field(default_factory=FVDConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    efid: EFIDConfig = field(default_factory=EFIDConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    logger: ScoreLoggerConfig = field(default_factory=ScoreLoggerConfig)
