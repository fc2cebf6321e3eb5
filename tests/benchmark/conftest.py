"""Results files with chosen numbers, written by evaluate.py's own writer, with features that have these distances."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.tables.rebuild_tables import make_tables
from configs.tables import TableConfig
from evaluation.cache import FeatureStore
from evaluation.results import Results, Value, write_results
from tests.helpers.results import value

FRECHET = ("fid", "fvd", "efid")
CLIPS = ("a", "b", "c")


def features_of(clip, frames, distance, spread, name):
    """Features (frames, 1) of the real and the generated video: moved by the root of a distance.

    Each clip's features are moved by another ``spread`` of its own, which depends on the name of the file.
    """
    real = np.random.default_rng(sum(map(ord, clip))).normal(size=(frames, 1))
    own = np.random.default_rng(sum(map(ord, clip + name))).normal()
    return real, real + max(distance, 0) ** 0.5 + spread * own


@pytest.fixture
def put(tmp_path):
    """Returns write(name, numbers, **cell) -> results file in ``results``; numbers: metric -> number or Value.

    Options: ``clips``; ``frames`` of each clip; ``size`` of the generated videos; ``made`` and ``real``, which name
    the videos' content; ``spread`` of the clips; ``features``: whether they are in the cache.
    """

    def write(
        name, numbers, not_computed=None, clips=CLIPS, offset=0, schema=None, frames=10, size=256, spread=0.0,
        made=None, real="real", features=True, encoding=None, expected=None, **cell,
    ):  # fmt: skip
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        cell = {"dataset": "hdtf", "mode": "A", "variant": "full", "run": 0, **cell}
        store = FeatureStore(tmp_path / "cache")
        count = {"clips": len(clips), "expected": expected or len(clips)}
        values = {metric: n if isinstance(n, Value) else value(metric, n, **count) for metric, n in numbers.items()}
        rows = []
        for place, clip in enumerate(clips):
            entries = {}
            for metric in FRECHET:
                if metric not in values:
                    continue
                arrays = features_of(clip, frames, values[metric].value, spread, name)
                keys = [{"clip": clip, "file": name, "metric": metric, "side": side} for side in (0, 1)]
                for key, rows_of in zip(keys, arrays, strict=True):
                    if features:
                        store.fetch(key, lambda rows_of=rows_of: {"features": rows_of, "seen": np.asarray(frames)})
                digests = dict(zip(("reference", "generated"), map(FeatureStore.digest, keys), strict=True))
                entries[metric] = {"reference": frames, "generated": frames, "features": digests}
            draw = np.random.default_rng(place + sum(map(ord, name))).normal()
            scores = {
                metric: values[metric].value + spread * draw for metric in ("sync_c", "sync_d") if metric in values
            }
            entries["sync"] = {"generated": {"offset": offset, "windows": 80, **(scores if features else {})}}
            rows.append(
                {
                    "clip": clip,
                    "frames": frames,
                    "reference": {
                        "sha256": f"{real} {clip}", "first_frame": 0, "width": 256, "height": 256, "encoding": encoding
                    },
                    "generated": {"sha256": f"{made or name} {clip}", "width": size, "height": size},
                    "metrics": entries,
                }
            )  # fmt: skip
        if spread:  # the values are those of the features
            for metric in values:
                if metric in FRECHET:
                    pairs = [features_of(clip, frames, values[metric].value, spread, name) for clip in clips]
                    one, two = (np.concatenate(side) for side in zip(*pairs, strict=True))
                    number = (one.mean() - two.mean()) ** 2 + (one.std(ddof=1) - two.std(ddof=1)) ** 2
                else:
                    number = np.mean([row["metrics"]["sync"]["generated"][metric] for row in rows])
                values[metric] = replace(values[metric], value=float(number))
        stored = tuple(replace(one, extra={**one.extra, "convention": "pytorch-fid"}) for one in values.values())
        settings = {
            "fps": 25.0,
            "cache": str(tmp_path / "cache"),
            "cell": cell if "system" in cell else {"system": None},
        }
        path = folder / name
        total = count["expected"]
        write_results(path, Results(stored, not_computed or {}, tuple(rows), (), total, settings, {"torch": "2"}))
        if schema:
            path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
        return path

    return write


@pytest.fixture
def make(tmp_path, capsys):
    """Returns run(number, **keys) -> exit status, rows of the CSV file, and printed text."""

    def run(number, **keys):
        status = make_tables(TableConfig(number, str(tmp_path / "results"), str(tmp_path / "tables"), **keys))
        file = tmp_path / "tables" / f"table{'1' if number == 'all' else number}.csv"
        return status, list(csv.DictReader(file.open())), capsys.readouterr().out

    return run
