"""FID, FVD and E-FID of a set of clips, with interval and warnings, from cached features.

Shapes: N samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from encoders.landmarks.sidecar import LandmarkFileError
from evaluation.aligned_clips import AlignedClip, Clips, Side
from evaluation.cache import Arrays, FeatureStore
from evaluation.efid_features import EFIDFeatures
from evaluation.extractor import Extracting, Extractor, UnusableVideo, is_collecting
from evaluation.fvd_features import FVDFeatures
from evaluation.networks import NotComputed
from evaluation.one_pass import Collector, run_alone
from evaluation.pairs import EvaluationError, Missing
from evaluation.results import OF_THIS_N, ClipValues, ConfidenceInterval, Value
from media import MediaError
from metrics.functional.bootstrap import FrechetBootstrap, Z
from metrics.functional.frechet import Moments, add_features, ddof_of, distance_between, gaussian, no_moments

EXTRAPOLATED = "line in 1 / clips through random subsets of the clips, at infinitely many clips"
FAILURES = (UnusableVideo, MediaError, ValueError)  # errors of a single video
Progress = Callable[[int], object]
Collectors = Callable[[AlignedClip, Side], list[Collector]]
Stores = tuple[FeatureStore, FeatureStore]  # caches of the reference and the generated side


class DistributionMetric:
    """``Metric`` that is the Fréchet distance of an extractor's features.

    The features of all clips are in memory, 8 KiB for each frame of FID.

    Args:
        extractor: Extractor of the features.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.name = extractor.name

    def collectors(self, clips: Clips) -> Collectors:
        """Returns the function to the collectors of one side of a clip; none for an extractor without them."""
        extractor = self.extractor
        usable = {clip.name for clip, reason in zip(clips, extractor.plan(clips), strict=True) if reason is None}

        def collect(clip: AlignedClip, side: Side) -> list[Collector]:
            if clip.name not in usable or not is_collecting(extractor):
                return []
            pieces = [_piece(extractor, clip, side)]
            if isinstance(extractor, FVDFeatures) and side.name == "reference":
                pieces.append(_first_part(extractor, clip))
            return [extractor.collector(piece) for piece in pieces]

        return collect

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Progress) -> None:
        """Computes features of ``own``; see ``Metric``. A protocol selects its pieces from all ``clips``."""
        extractor = self.extractor
        usable = {clip.name for clip, reason in zip(clips, extractor.plan(clips), strict=True) if reason is None}
        for clip in own:
            for side, store in zip((clip.reference, clip.generated), stores, strict=True):
                if clip.name in usable:
                    with suppress(*FAILURES):
                        features_of(extractor, clip, side, store)
                progress(side.frames)
            if clip.name in usable and isinstance(extractor, FVDFeatures):
                with suppress(*FAILURES):
                    _first_piece(extractor, clip, stores[0])

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes the value, the missing videos and the number of samples per clip; see ``Metric``.

        Raises:
            NotComputed: If a side has fewer than two samples.
        """
        extractor = self.extractor
        good, sides, missing, counted = self.read(clips, stores, progress)
        samples = min(side.count for side in sides)
        if samples < 2:
            raise NotComputed(f"needs at least two {extractor.unit} on each side, found {samples}", missing)
        distance = _distance(extractor, sides)
        resampling = _Resampling(extractor, sides, bootstrap)
        value = Value(
            name=extractor.name,
            title=extractor.title,
            value=distance,
            better="lower",
            official=extractor.sources[0].official,
            sources=extractor.sources,
            protocol=extractor.protocol,
            clips=len(good),
            expected=expected,
            samples={"reference": sides[0].count, "generated": sides[1].count},
            unit=extractor.unit,
            interval=resampling.interval(distance),
            warnings=tuple(_warnings(extractor, samples, sides)),
            extra={
                "convention": extractor.convention,
                **resampling.extra(),
                **_extra(extractor, good, sides, stores[0]),
            },
        )
        return [value], missing, counted

    def read(
        self, clips: Clips, stores: Stores, progress: Progress
    ) -> tuple[list[AlignedClip], list[ComparedFeatures], list[Missing], ClipValues]:
        """Reads the features of all clips.

        Returns:
            The clips with features on both sides, the samples of the reference and of the generated side, the videos
            without features, and the number of samples per clip with their names in the cache.
        """
        extractor = self.extractor
        missing: list[Missing] = []
        good: list[AlignedClip] = []
        rows: list[dict[str, Arrays]] = []
        counted: ClipValues = {}
        for clip, reason in zip(clips, extractor.plan(clips), strict=True):
            if reason:
                missing.append(Missing(clip.name, "both", self.name, reason))
                progress(2 * clip.generated.frames)
                continue
            found = {}
            for side, store in zip((clip.reference, clip.generated), stores, strict=True):
                try:
                    found[side.name] = features_of(extractor, clip, side, store)
                except FAILURES as error:
                    missing.append(Missing(clip.name, side.name, self.name, str(error)))
                progress(side.frames)
            if len(found) == 2:
                good.append(clip)
                rows.append(found)
                counted[clip.name] = _counts(extractor, clip, found)
        sides = [ComparedFeatures([found[name] for found in rows]) for name in ("reference", "generated")]
        return good, sides, missing, counted

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> dict[str, dict[str, Any]]:
        """Computes the value over one window of all clips; see ``Metric``."""
        name = self.name
        pieces = [
            replace(clip, generated=clip.generated.part(first, length), reference=clip.reference.part(first, length))
            for clip in clips
        ]
        try:
            (value,), _, _ = self.values(pieces, len(pieces), stores, (0, 0), lambda _: None)
        except NotComputed as error:
            return {name: {"value": None, "n": 0, "reason": str(error).splitlines()[0]}}
        return {name: {"value": value.value, "n": value.clips}}


def features_of(extractor: Extractor, clip: AlignedClip, side: Side, store: FeatureStore) -> Arrays:
    """Returns the features of one side of a clip, from the cache if possible.

    Raises:
        UnusableVideo: If the video has no features.
        MediaError: If the video cannot be read.
        ValueError: If features are not finite.
    """
    return _fetch(extractor, _piece(extractor, clip, side), store)


def _fetch(extractor: Extractor, side: Side, store: FeatureStore) -> Arrays:
    if is_collecting(extractor):
        collector = extractor.collector(side)
        try:
            arrays = store.fetch(collector.key, lambda: run_alone(collector, side))
        except LandmarkFileError as error:
            raise UnusableVideo(str(error)) from error
        return _part_of(extractor, side, arrays)

    def make() -> Arrays:
        arrays = cast(Extracting, extractor).extract(side)
        _require_protocol(extractor, arrays)  # before storing, so that a corrected extractor does not find wrong arrays
        if not np.isfinite(arrays["features"]).all():
            raise ValueError(f"{side.path}: the features have NaN or infinite values; check the network's weights")
        return arrays

    return store.fetch(_key(extractor, side), make)


def _key(extractor: Extractor, side: Side) -> dict[str, object]:
    return {"what": extractor.name, "side": side.key, **extractor.key(side)}


def _part_of(extractor: Extractor, side: Side, arrays: Arrays) -> Arrays:
    """Selects the compared frames from the features of a video.

    Raises:
        UnusableVideo: If there are none.
    """
    frames = arrays["frames"]
    chosen = (frames >= side.start) & (frames < side.start + side.frames)
    if not chosen.any():
        raise UnusableVideo(f"no face was found in any of {side.frames} frames ({extractor.protocol['landmarks']})")
    features = arrays["features"][chosen]
    if isinstance(extractor, EFIDFeatures) and extractor.used:
        features = features[:, slice(*extractor.used)]
    if not np.isfinite(features).all():
        raise ValueError(f"{side.path}: the features have NaN or infinite values; check the network's weights")
    seen = arrays["seen"] if isinstance(extractor, FVDFeatures) else np.asarray(side.frames)
    return {"features": features, "frames": frames[chosen] - side.start, "seen": seen}


def _require_protocol(extractor: Extractor, arrays: Arrays) -> None:
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    features = shapes.get("features", ())
    if len(features) != 2 or features[1] != extractor.dimensions or shapes.get("seen") != ():
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        raise EvaluationError(
            f"{type(extractor).__name__}.extract returned {found}; expected features "
            f"(samples, {extractor.dimensions}) by its dimensions, and seen (), the number of frames that were read"
        )


def _piece(extractor: Extractor, clip: AlignedClip, side: Side) -> Side:
    """Returns the part of a side that the metric uses."""
    if not isinstance(extractor, FVDFeatures):
        return side
    return extractor.piece(clip, side)


class ComparedFeatures:
    """Features of one side of all clips.

    Args:
        rows: Features of each clip.

    Attributes:
        features: (N, D) features of each clip.
        count: Number of samples.
        seen: Number of frames that were read, with or without a face.
    """

    def __init__(self, rows: Sequence[Arrays]) -> None:
        self.features = [arrays["features"] for arrays in rows]
        self.count = sum(map(len, self.features))
        self.seen = sum(int(arrays["seen"]) for arrays in rows)

    def moments(self, dimensions: int) -> Moments:
        """Computes the moments of all clips."""
        moments = no_moments(dimensions)
        for features in self.features:
            moments = add_features(moments, torch.from_numpy(features).double())
        return moments


def _distance(extractor: Extractor, sides: Sequence[ComparedFeatures]) -> float:
    ddof = ddof_of(extractor.convention)
    one, two = (gaussian(side.moments(extractor.dimensions), ddof) for side in sides)
    return float(distance_between(one, two, extractor.convention))


class _Resampling:
    """Bootstrap over the pairs of clips, and the value without the bias of their number.

    The interval is the value plus and minus 1.96 standard errors. Percentiles of the resamples would be biased:
    repeated clips reduce the covariance and increase the distance.
    """

    def __init__(self, extractor: Extractor, sides: Sequence[ComparedFeatures], bootstrap: tuple[int, int]) -> None:
        self.resamples, self.seed = bootstrap
        self.frechet: FrechetBootstrap | None = None
        if self.resamples and len(sides[0].features) >= 3:
            device = getattr(extractor, "device", "cpu")  # extractors from outside need not have one
            real, made = (side.features for side in sides)
            self.frechet = FrechetBootstrap(real, made, extractor.convention, device)

    def interval(self, value: float) -> ConfidenceInterval | None:
        """Returns the interval; None without resamples, or below three clips."""
        if self.frechet is None:
            return None
        error, method = self.frechet.standard_error(self.resamples, self.seed)
        low, high = max(0.0, value - Z * error), value + Z * error
        return ConfidenceInterval(low, high, self.resamples, self.seed, "pairs of clips", OF_THIS_N, method)

    def extra(self) -> dict[str, object]:
        """Returns the extrapolated value for the results file; empty below six clips."""
        value = self.frechet.without_bias(self.seed) if self.frechet else None
        return {} if value is None else {"without_bias": {"value": value, "method": EXTRAPOLATED}}


def _warnings(extractor: Extractor, samples: int, sides: Sequence[ComparedFeatures]) -> list[str]:
    texts = [source.note for source in extractor.sources if source.note]
    if samples <= extractor.dimensions:
        texts.append(
            f"{samples} {extractor.unit}, fewer than the {extractor.dimensions + 1} that a regular covariance of "
            f"{extractor.dimensions} features needs: the value is exact but biased upwards; compare it only with "
            "values from the same number"
        )
    if extractor.unit == "clips":
        return texts
    for side, name in zip(sides, ("reference", "generated"), strict=True):
        if side.count < side.seen:
            texts.append(f"{name}: a face was found in {side.count} of {side.seen} frames")
    return texts


def _counts(extractor: Extractor, clip: AlignedClip, found: dict[str, Arrays]) -> dict[str, object]:
    counts: dict[str, object] = {name: len(arrays["features"]) for name, arrays in found.items()}
    # Names of the features in the cache, with which tables score the clips that several systems share.
    counts["features"] = {
        side.name: _entry(extractor, _piece(extractor, clip, side)) for side in (clip.reference, clip.generated)
    }
    if isinstance(extractor, FVDFeatures):
        counts["first_frames"] = extractor.first_frames(clip)
    return counts


def _entry(extractor: Extractor, side: Side) -> object:
    """Returns the name of a side's features in the cache, see ``FeatureStore.part``."""
    if not is_collecting(extractor):
        return FeatureStore.digest(_key(extractor, side))
    columns = extractor.used if isinstance(extractor, EFIDFeatures) else None
    digest = FeatureStore.digest(extractor.collector(side).key)
    return {"digest": digest, "first": side.start, "frames": side.frames, "columns": columns}


def _extra(
    extractor: Extractor, clips: Clips, sides: Sequence[ComparedFeatures], store: FeatureStore
) -> dict[str, object]:
    """Returns additional fields of the results file: FVD's floor, E-FID's detection rates."""
    if isinstance(extractor, FVDFeatures):
        first = ComparedFeatures([_first_piece(extractor, clip, store) for clip in clips])
        return {"floor": _distance(extractor, [sides[0], first])}
    if extractor.name == "efid":
        rates = {
            name: round(side.count / side.seen, 6) for name, side in zip(("reference", "generated"), sides, strict=True)
        }
        return {"detection_rate": rates}
    return {}


def _first_piece(extractor: FVDFeatures, clip: AlignedClip, store: FeatureStore) -> Arrays:
    """Returns the reference's features at the frames of the generated side's piece.

    Their FVD is the value of perfect videos (the floor).
    """
    return _fetch(extractor, _first_part(extractor, clip), store)


def _first_part(extractor: FVDFeatures, clip: AlignedClip) -> Side:
    return clip.reference.part(0, extractor.length)
