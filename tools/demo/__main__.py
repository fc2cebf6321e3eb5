"""``make demo`` and ``make demo-real VIDEOS=DIR``: runs the steps and prints where the page is.

python -m tools.demo                 synthetic speakers
python -m tools.demo videos=DIR      your videos, with one person each
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from configs.options import folder, read_options, run_script
from runtime.console import new_console
from runtime.files import write_whole
from runtime.ownership import claim
from tools.demo.demo_plan import PLAN, real_plan, synthetic_plan
from tools.pipeline.run_steps import ROOT, conclude, run_chain
from tools.pipeline.step import Step

SYNTHETIC, REAL = "demo", "demo-real"  # output folders


def main(arguments: Sequence[str]) -> int:
    """Parses the command line and runs the demonstration; returns the exit status."""
    videos = read_options(__doc__, arguments, {"videos": folder}).get("videos")
    os.chdir(ROOT)
    place = Path(REAL if videos else SYNTHETIC)
    steps = real_plan(place, videos) if videos else synthetic_plan(place)
    return show(steps, place, new_console(highlight=False))


def show(steps: Sequence[Step], folder: Path, console: Console) -> int:
    """Runs the steps and returns the exit status."""
    write_plan(steps, folder)
    expected = sum(step.seconds or 0 for step in steps)
    console.print(
        f"{len(steps)} steps, about {expected / 60:.0f} minutes on two idle cores. The trainings are much shorter than "
        "the experiments they are named after, so faces stay rough.",
        soft_wrap=True,
    )
    return conclude(run_chain(steps, folder, console), (folder / "index.html").absolute(), console)


def write_plan(steps: Sequence[Step], folder: Path) -> None:
    """Writes the titles, reasons and commands of the steps for the page."""
    claim(folder, [PLAN], str(folder))
    content = [{"name": step.name, "title": step.title, "why": step.why, "command": step.typed} for step in steps]
    write_whole(folder / PLAN, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
