"""Versioned results file: values with everything they depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.pairs import EvaluationError, Missing
from runtime.files import write_whole

if TYPE_CHECKING:  # not imported at run time, so that tables are made without loading torch
    from evaluation.networks import Source

SCHEMA = "emotivetalk.evaluation/1"
OF_THIS_N = "the value at this number of clips"
ClipValues = dict[str, dict[str, object]]  # clip -> entries of one metric


@dataclass(frozen=True)
class Column:
    """Table column of one value of a metric.

    Attributes:
        metric: Key in results files.
        title: Name in the paper.
        better: ``lower`` or ``higher``.
        family: Name of the metric in the configuration, if it differs from ``metric``.
        low: Smallest possible value; None if there is none.
        high: Largest possible value; None if there is none.
        digits: Decimals in tables.
    """

    metric: str
    title: str
    better: str
    family: str = ""
    low: float | None = None
    high: float | None = None
    digits: int = 2


@dataclass(frozen=True)
class ConfidenceInterval:
    """95 % interval of the resampling of clips.

    For a Fréchet distance it is the spread of the value at this number of clips. It is not an interval of the distance
    between the distributions, because the value is biased upwards by its number of samples.

    Attributes:
        low: Lower end.
        high: Upper end.
        resamples: Number of resamples.
        seed: Seed of the bootstrap.
        over: Resampled units.
        of: What the interval covers.
        method: ``bootstrap``, or ``influence function``, which uses no resamples.
    """

    low: float
    high: float
    resamples: int
    seed: int
    over: str
    of: str = OF_THIS_N
    method: str = "bootstrap"


@dataclass(frozen=True)
class Value:
    """Value of one metric.

    Attributes:
        name: Key in the results file.
        title: Printed name; the official name only for official networks.
        value: The value.
        better: ``lower`` or ``higher``.
        official: Whether all networks are those of the metric's reference implementation.
        sources: Networks, the feature network first.
        protocol: All settings that the value depends on.
        clips: Number of clips in the value.
        expected: Number of clips if no video were missing.
        samples: Side -> number of compared samples.
        unit: Unit of the samples.
        interval: 95 % interval of the value at this number of clips, or None with too few clips.
        warnings: Warnings for the reader.
        extra: Additional fields of the results file.
    """

    name: str
    title: str
    value: float
    better: str
    official: bool
    sources: tuple[Source, ...]
    protocol: Mapping[str, object]
    clips: int
    expected: int
    samples: Mapping[str, int]
    unit: str
    interval: ConfidenceInterval | None
    warnings: tuple[str, ...]
    extra: Mapping[str, object] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """Returns the entry of the results file."""
        main = self.sources[0]
        return {
            "value": self.value,
            "title": self.title,
            "better": self.better,
            "official": self.official,
            "network": main.network,
            "sha256": main.sha256,
            "networks": [source.record() for source in self.sources],
            "protocol": dict(self.protocol),
            "n": self.clips,
            "expected": self.expected,
            "samples": dict(self.samples),
            "unit": self.unit,
            "interval": asdict(self.interval) if self.interval else None,
            "warnings": list(self.warnings),
            **self.extra,
        }


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        values: Values of the computed metrics.
        not_computed: Metric -> reason why it was not computed.
        clips: Name, files, notes and metrics of each clip.
        missing: Videos that are not part of the values of one or all metrics.
        expected: Number of clips if no video were missing.
        settings: The configuration.
        environment: Versions and device.
    """

    values: tuple[Value, ...]
    not_computed: Mapping[str, str]
    clips: tuple[Mapping[str, object], ...]
    missing: tuple[Missing, ...]
    expected: int
    settings: Mapping[str, object]
    environment: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Returns the content of the results file."""
        metrics: dict[str, object] = {value.name: value.record() for value in self.values}
        metrics |= {name: {"value": None, "not_computed": reason} for name, reason in self.not_computed.items()}
        return {
            "schema": SCHEMA,
            "metrics": metrics,
            "n": len(self.clips),
            "expected": self.expected,
            "clips": list(self.clips),
            "missing": [asdict(row) for row in self.missing],
            "settings": dict(self.settings),
            "environment": dict(self.environment),
        }


def write_results(path: Path, results: Results) -> None:
    """Writes the results file; an existing file is replaced only when the new one is complete.

    Raises:
        EvaluationError: If the file cannot be written.
    """
    text = json.dumps(results.record(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written ({error.strerror}); choose another output=FILE") from error
