"""Table 3 on synthetic speakers: one ETHD run, clips of 120 to 1500 frames, and the drift over the longest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from encoders.protocols import FPS
from evaluation.drift import MIN_WINDOWS
from tools.pipeline.step import Step
from tools.reproduce.table_plan import IN_THE_TABLE, TablePlan

LENGTHS = (120, 250, 750, 1500)  # frames
WINDOW = 5  # seconds of a drift window


@dataclass(frozen=True)
class Table3:
    """Settings of Table 3.

    Attributes:
        ethd: Exported ETHD.
        clips: Number of test clips of every length.
        lengths: Lengths in frames.
    """

    ethd: Path
    clips: int = 8
    lengths: tuple[int, ...] = LENGTHS


def table3(plan: TablePlan, wanted: Table3) -> list[Step]:
    """Returns the steps. Clips of all lengths start with the same frames."""
    longest = max(wanted.lengths)
    drawn = plan.test_set("synthetic", "drawn", [f"clips={wanted.clips}", f"seconds={longest / FPS:g}"])
    long = plan.results / f"{longest}_frames.json"
    for length in wanted.lengths:
        name = f"{length}_frames"
        source = drawn / "drawn"
        cases = plan.test_set("mini", f"set_{length}", [f"source={source}", f"frames={length}"], [source])
        clips = plan.system(name, "emotivetalk_a", cases / "cases_A.csv", [f"ethd={wanted.ethd}"], [wanted.ethd, cases])
        cell = {"system": "emotivetalk", "mode": "A", "variant": name}
        drift = [f"drift={WINDOW}"] if length >= MIN_WINDOWS * WINDOW * FPS else []
        plan.evaluate(name, clips / "videos", clips / "reference", cell, [IN_THE_TABLE, *drift])
    plan.table("3")
    figure = plan.folder / "tables" / "drift.png"
    command = ["-m", "benchmark.figures", "drift", f"files={long}", f"output={figure}"]
    plan.add("drift", "draws the drift over the longest clips", command, [long], [figure])
    return plan.steps
