"""Command line: plans the steps of a table and runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from configs.options import Readers, chosen, count, folder, path, read_command, read_options, run_script, seconds, whole
from encoders.weights import locate
from runtime.console import new_console
from tools import reproduce
from tools.pipeline.command import ROOT
from tools.pipeline.run_steps import conclude, run_chain
from tools.pipeline.step import Step
from tools.reproduce.figure4 import Figure4, figure4
from tools.reproduce.table1 import PUBLISHED, SIZE, Table1, table1
from tools.reproduce.table2 import ABLATIONS, Table2, table2
from tools.reproduce.table3 import Table3, table3
from tools.reproduce.table_plan import TablePlan, chosen_networks, exported

FOLDERS = {
    "table1": "outputs/tables/mini", "table2": "outputs/tables/ablation", "table3": "outputs/tables/long",
    "figure4": "outputs/tables/figure4",
}  # fmt: skip
FILES = ("videos", "ethd", "without", "portrait", "speech", "expression", "proxies", "output")


def main(arguments: Sequence[str]) -> int:
    """Parses the command line, runs the steps and returns the exit status."""
    table = read_command(reproduce.__doc__, arguments, TABLES)
    readers, needed, plan = TABLES[table]
    options = read_options(reproduce.__doc__, arguments[1:], {**COMMON, **readers}, required=needed)
    for name in FILES:
        if name in options:
            options[name] = options[name].absolute()
    os.chdir(ROOT)
    console = new_console(highlight=False)
    if table in ("table1", "table3") and "proxies" not in options:
        console.print("No proxies=...: using the official networks; metrics without weights will be missing.")
    place = options.setdefault("output", Path(FOLDERS[table]))
    steps = plan(options)  # first: errors in the keys are reported before missing weights
    locate("face_landmarker")
    results = run_chain(steps, place, console, keep_going=True)
    if failed := [result.step.name for result in results if not result.done]:
        console.print(f"\nNot done: {escape(', '.join(failed))}; the table lists what is missing.", soft_wrap=True)
    return conclude(results, place / "tables", console)


def _plan(options: Mapping[str, Any], dataset: str, real_faces: bool) -> TablePlan:
    metrics, networks = chosen_networks(options.get("proxies"), real_faces)
    return TablePlan(options["output"], dataset, metrics, networks, options.get("device", "cpu"))


def _table1(options: Mapping[str, Any]) -> list[Step]:
    ethd = exported(options["ethd"]) if "ethd" in options else None
    limits = options.get("clips"), options.get("frames"), options.get("installed", {})
    wanted = Table1(options["videos"], ethd, options.get("size", SIZE), *limits)
    return table1(_plan(options, options.get("dataset", "mini"), real_faces=True), wanted)


def _table2(options: Mapping[str, Any]) -> list[Step]:
    wanted = {name: value for name, value in options.items() if name not in COMMON}
    plan = TablePlan(options["output"], "synthetic", device=options.get("device", "cpu"))
    return table2(plan, Table2(**wanted, proxies=options.get("proxies")))


def _table3(options: Mapping[str, Any]) -> list[Step]:
    wanted = Table3(exported(options["ethd"]), options.get("clips", Table3.clips))
    return table3(_plan(options, "synthetic", real_faces=False), wanted)


def _figure4(options: Mapping[str, Any]) -> list[Step]:
    without = exported(options["without"], "without") if "without" in options else None
    inputs = {name: options[name] for name in ("portrait", "speech", "expression")}
    wanted = Figure4(**inputs, ethd=exported(options["ethd"]), without=without)
    return figure4(TablePlan(options["output"], "", device=options.get("device", "cpu")), wanted)


def installed(value: str) -> dict[str, tuple[str, str]]:
    """Parses ``SYSTEM:REPOSITORY:PYTHON``, separated by commas: published systems that are installed here."""
    found = {}
    for part in value.split(","):
        name, repository, python = (part.split(":", 2) + ["", ""])[:3]
        if not (repository and python):
            raise ValueError("expected SYSTEM:REPOSITORY:PYTHON")
        if name not in PUBLISHED:
            raise ValueError(f"{name}: unknown system; expected one of {', '.join(PUBLISHED)}")
        found[name] = (os.path.abspath(os.path.expanduser(repository)), python)
    return found


COMMON: Readers = {"proxies": path, "device": chosen("cpu", "cuda"), "output": path}
# table -> its own options, its required options, and the function that plans it
TABLES: Mapping[str, tuple[Readers, tuple[str, ...], Callable[[Mapping[str, Any]], list[Step]]]] = {
    "table1": (
        {
            **{"videos": folder, "ethd": path, "size": count, "clips": count, "frames": count},
            **{"dataset": str, "installed": installed},
        },
        ("videos",),
        _table1,
    ),
    "table2": (
        {
            **{"seed": whole, "steps": count, "clips": count, "seconds": seconds},
            **{"identities": count, "clips_per_identity": count, "ablations": chosen(*ABLATIONS)},
        },
        (),
        _table2,
    ),
    "table3": ({"ethd": path, "clips": count}, ("ethd",), _table3),
    "figure4": (
        {"portrait": path, "speech": path, "expression": path, "ethd": path, "without": path},
        ("portrait", "speech", "expression", "ethd"),
        _figure4,
    ),
}


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
