"""The results file: every value with all it depends on, versioned, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.pairs import EvaluationError, Missing
from runtime.files import write_whole

if TYPE_CHECKING:  # the tables read results files without loading torch
    from evaluation.networks import Source

SCHEMA = "emotivetalk.evaluation/1"
ClipValues = dict[str, dict[str, object]]  # clip -> what a metric says of it


@dataclass(frozen=True)
class Column:
    """One value of a metric, as tables show it.

    Attributes:
        metric: as results files name it.
        title: as the paper names it.
        better: lower or higher.
        family: the metric that gives it, where that has another name.
    """

    metric: str
    title: str
    better: str
    family: str = ""


@dataclass(frozen=True)
class ConfidenceInterval:
    """A 95 % interval.

    Attributes:
        low: its lower end.
        high: its upper end.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        over: what was resampled.
    """

    low: float
    high: float
    resamples: int
    seed: int
    over: str


@dataclass(frozen=True)
class Value:
    """One metric's value.

    Attributes:
        name: key in the results file.
        title: what it may be called; the official name only where the network is the official one.
        value: the number.
        better: lower or higher.
        official: whether every network behind it is the one of the metric's reference.
        sources: the networks, the deciding one first.
        protocol: every choice it depends on.
        clips: how many clips it holds.
        expected: how many it should.
        samples: what was compared, by side.
        unit: of the samples.
        interval: 95 %, where there are enough clips.
        warnings: what a reader has to know.
        extra: further fields of the results file.
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
        """As the results file holds it."""
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
    """All an evaluation found.

    Attributes:
        values: the metrics that were computed.
        not_computed: metric -> why it was not.
        clips: per clip its name, files, notes and values.
        missing: videos, or metrics of videos, that are not in the values.
        expected: how many clips there should be.
        settings: the configuration.
        environment: versions of what it ran on.
    """

    values: tuple[Value, ...]
    not_computed: Mapping[str, str]
    clips: tuple[Mapping[str, object], ...]
    missing: tuple[Missing, ...]
    expected: int
    settings: Mapping[str, object]
    environment: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """The content of the results file."""
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
    """Writes the file; an older one stays until the new one is whole.

    Raises:
        EvaluationError: if it cannot be written.
    """
    text = json.dumps(results.record(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written ({error.strerror})") from error
