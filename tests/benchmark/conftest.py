"""Results files as evaluate.py writes them, made by the product's own writer from chosen numbers."""

import json
from dataclasses import replace

import pytest

from evaluation.networks import Source
from evaluation.results import Interval, Results, Value, write_results

NAMES = {"fid": "FID", "fvd": "FVD", "sync_c": "Sync-C", "sync_d": "Sync-D", "efid": "E-FID"}
BETTER = {"sync_c": "higher"}
TRUTH = {"sync_c": 8.5, "sync_d": 6.7}


def value(metric, number, **changes):
    """One metric's value with everything a results file holds."""
    official = changes.pop("official", True)
    source = Source(f"net of {metric}", f"{metric}.pth", ("ab" if official else "cd") * 32, official)
    truth = {"ground_truth": {"value": TRUTH[metric], "n": 3, "expected": 3}} if metric in TRUTH else {}
    entry = Value(
        name=metric,
        title=NAMES[metric] if official else f"{NAMES[metric]} stand-in (3DDFA_V2)",
        value=number,
        better=BETTER.get(metric, "lower"),
        official=official,
        sources=(source,),
        protocol={"name": f"reference {metric}", "min_track": 50},
        clips=3,
        expected=3,
        samples={"reference": 300, "generated": 300},
        unit="frames",
        interval=Interval(number - 0.5, number + 0.5, 100, 0, "pairs of clips"),
        warnings=(),
        extra=truth,
    )
    return replace(entry, **changes)


@pytest.fixture
def put(tmp_path):
    """put(file, numbers, **cell) -> the results file, in a folder ``results``; numbers: metric -> number or Value."""

    def write(name, numbers, not_computed=None, clips=("a", "b", "c"), offset=0, schema=None, **cell):
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        cell = {"dataset": "hdtf", "mode": "A", "variant": "full", "run": 0, **cell}
        rows = tuple(
            {
                "clip": clip,
                "reference": {"sha256": f"real {clip}"},
                "generated": {"sha256": f"made {clip}"},
                "metrics": {"sync": {"generated": {"offset": offset, "windows": 80}}},
            }
            for clip in clips
        )
        values = tuple(n if isinstance(n, Value) else value(metric, n) for metric, n in numbers.items())
        settings = {"fps": 25.0, "cell": cell if "system" in cell else {"system": None}}
        path = folder / name
        write_results(path, Results(values, not_computed or {}, rows, (), 3, settings, {"torch": "2"}))
        if schema:
            raw = json.loads(path.read_text())
            path.write_text(json.dumps({**raw, "schema": schema}))
        return path

    return write
