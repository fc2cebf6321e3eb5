"""Schemas of ``evaluate.py``."""

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
    """Settings of FID.

    Attributes:
        network: inception; or proxy, the network that train.py experiment=proxy/image wrote, whose values are labelled.
        weights: File of Inception weights, or of the proxy. Any other than the official file labels the value
            unofficial.
        batch_size: Frames per forward pass; does not change the value.
    """

    network: str = choice("inception", "inception", "proxy")
    weights: str | None = literal(None)
    batch_size: int = positive(32)


@dataclass
class FVDConfig:
    """Settings of FVD.

    Attributes:
        protocol: Published implementation: stylegan-v, stylegan-v-128f, stylegan-v-128f-subsample8, fvd-comparison,
            videogpt, latentsync or disco.
        network: i3d; or proxy, the network that train.py experiment=proxy/video wrote, whose values are labelled.
        weights: File of I3D weights, or of the proxy. Any other than the protocol's official file labels the value
            unofficial.
        seed: Seed of the random starts of the reference clips.
    """

    protocol: str = choice("stylegan-v", *FVD_PROTOCOLS)
    network: str = choice("i3d", "i3d", "proxy")
    weights: str | None = literal(None)
    seed: int = at_least(0, 0)


@dataclass
class SyncConfig:
    """Sync-C and Sync-D.

    Attributes:
        mode: ``reference`` runs the lossy steps of syncnet_python; ``fast`` omits them, and its values are not
            comparable with published ones.
        network: syncnet; or proxy, the network that train.py experiment=proxy/sync wrote, whose values are labelled.
        detector: s3fd, as in the original; mediapipe; or, with mode=fast, sidecar: the landmark file X.csv of X.mp4.
            The last two label the value unofficial.
        weights: File of SyncNet weights, or of the proxy. Any other than the official file labels the value unofficial.
        detector_weights: File of S3FD weights.
        min_track: Minimum length of a face track that is scored, frames at 25 fps. The original's 100 excludes most of
            MEAD.
        min_face: Minimum size of a face, pixels.
        ffmpeg: Program for mode=reference; null for the one on the search path.
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
    """Settings of E-FID.

    Attributes:
        network: deep3d (Deep3DFaceRecon, as in the paper); or 3ddfa (3DDFA_V2) and proxy (written by train.py
            experiment=proxy/expression), whose values are labelled.
        landmarks: ``detector`` for the detector of the network, or ``sidecar`` for the file X.csv of X.mp4 in the
            format of OpenFace.
        weights: File of the network's weights. Any other than the published file labels the value unofficial.
        batch_size: Faces per forward pass; does not change the value.
    """

    network: str = choice("deep3d", "deep3d", "3ddfa", "proxy")
    landmarks: str = choice("detector", "detector", "sidecar")
    weights: str | None = literal(None)
    batch_size: int = positive(16)


@dataclass
class CellConfig:
    """Cell of the paper's tables that a result fills; none if ``system`` is empty.

    Attributes:
        system: emotivetalk, sadtalker, anitalker, aniportrait, hallo, pdfgc, styletalk, dreamtalk, another system of
            benchmark/systems, or with ``new`` any name.
        dataset: hdtf, mead, another registered dataset, or with ``new`` any name. Each is one block of a table.
        mode: A (driven by audio), A+V (driven by audio and the paired video), or control: a bound of a metric, e.g. of
            a still image, which is not ranked.
        variant: full, an ablation by training (wo_lip, wo_exp, no_decouple) or at inference (wo_lip_inference,
            wo_exp_inference), or a length (120_frames, ..., 1500_frames).
        run: Number of a training run or seed. Three or more runs give an interval.
        new: Whether the names may be neither the paper's nor registered. Without it, such a name is refused.
    """

    system: str | None = literal(None)
    dataset: str | None = literal(None)
    mode: str | None = literal(None, one_of("A", "A+V", "control"))
    variant: str = literal("full")
    run: int = at_least(0, 0)
    new: bool = False


@dataclass
class EvaluateConfig:
    """Configuration of ``evaluate.py``.

    Attributes:
        generated: Folder of generated videos, with subfolders.
        reference: Folder of real videos. Pairs have the same name without suffix.
        output: Results file, .json.
        metrics: Any of fid, fvd, sync, efid, kid, aed, apd, m_lmd, f_lmd, lip_stability, psnr, ssim, and dotted paths
            of your own metrics.
        protocol: Named set of choices in ``configs/protocol``.
        fps: Frame rate at which the two videos of a pair are compared.
        crop: Rectangle of the generated frames that holds the result, as x, y, width, height in pixels; null for the
            whole frame.
        offset: Generated frame k corresponds to reference frame k + offset, at ``fps``. null for the offset in the
            records of benchmark.run_system, 0 without records.
        max_gap: Maximum difference in length of a pair, seconds. The longer video is trimmed.
        allow_missing: Exit with status 0 even if videos are missing or failed.
        device: auto, cpu or cuda.
        bootstrap: Number of bootstrap resamples of the clips for each interval; 0 for none.
        seed: Seed of the resampling.
        cache: Folder of cached features; null for the user's cache folder. Tables read them to score the clips that
            several systems share.
        drift: Window in seconds. Each metric is also computed per window, with its slope over time; null disables this.
        cell: Cell of the paper's tables that the result fills.
        logger: Loggers in addition to the results file.
    """

    generated: str = literal()
    reference: str = literal()
    output: str = literal()
    metrics: list[str] = registered(METRICS, ["fid", "fvd", "sync", "efid"])
    protocol: str = MISSING
    fps: float = positive(25.0)
    crop: list[int] | None = panel()
    offset: int | None = number(None)
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
