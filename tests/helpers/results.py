"""Values of metrics as in a results file."""

from __future__ import annotations

from dataclasses import replace

from evaluation.networks import Source
from evaluation.results import ConfidenceInterval, Value

NAMES = {"fid": "FID", "fvd": "FVD", "sync_c": "Sync-C", "sync_d": "Sync-D", "efid": "E-FID"}
BETTER = {"sync_c": "higher"}
TRUTH = {"sync_c": 8.5, "sync_d": 6.7}


def value(metric, number, **changes):
    """Returns the value of one metric with all fields of a results file."""
    official = changes.pop("official", True)
    source = Source(f"net of {metric}", f"{metric}.pth", ("ab" if official else "cd") * 32, official)
    truth = {"ground_truth": {"value": TRUTH[metric], "n": 3, "expected": 3}} if metric in TRUTH else {}
    entry = Value(
        name=metric, title=NAMES.get(metric, metric) if official else f"{NAMES[metric]} proxy (3DDFA_V2)", value=number,
        better=BETTER.get(metric, "lower"), official=official, sources=(source,),
        protocol={"name": f"reference {metric}", "min_track": 50}, clips=3, expected=3,
        samples={"reference": 300, "generated": 300}, unit="frames",
        interval=ConfidenceInterval(number - 0.5, number + 0.5, 100, 0, "pairs of clips"), warnings=(), extra=truth,
    )  # fmt: skip
    return replace(entry, **changes)
