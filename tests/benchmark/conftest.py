"""Results files with chosen numbers, written by evaluate.py's own writer."""

import json

import pytest

from evaluation.results import Results, Value, write_results
from tests.helpers.results import value


@pytest.fixture
def put(tmp_path):
    """Returns write(name, numbers, **cell) -> results file in ``results``; numbers: metric -> number or Value."""

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
            path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
        return path

    return write
