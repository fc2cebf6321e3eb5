"""``make demo`` and ``make demo-real VIDEOS=DIR``: runs the steps and prints where the page is.

python -m tools.demo                      synthetic speakers, from the small model of the repository
python -m tools.demo from_scratch=yes     the same from nothing
python -m tools.demo videos=DIR           your videos, with one person each
python -m tools.demo videos=DIR speaker=PATTERN     people by a pattern of their paths, see dataset.speaker
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigError
from configs.options import folder, read_options, run_script, yes
from runtime.console import new_console
from runtime.files import write_whole
from runtime.ownership import claim
from runtime.platforms import usable_cores
from tools.demo.demo_plan import PLAN, SCRATCH, SYNTHETIC, kept_plan, real_plan, synthetic_plan
from tools.demo.people import People
from tools.pipeline.command import ROOT
from tools.pipeline.run_steps import conclude, expected_seconds, run_chain
from tools.pipeline.step import Step

FOLDER, SCRATCH_FOLDER, REAL_FOLDER = "demo", "demo-from-scratch", "demo-real"


def main(arguments: Sequence[str]) -> int:
    """Parses the command line and runs the demonstration; returns the exit status."""
    options = read_options(__doc__, arguments, {"videos": folder, "speaker": str, "from_scratch": yes})
    videos, scratch = options.get("videos"), options.get("from_scratch", False)
    if "speaker" in options and not videos:
        raise ConfigError("speaker=: names the people of real videos; add videos=DIR, or leave it out")
    if videos and scratch:
        raise ConfigError("from_scratch=yes: networks of real people always start from the small model; leave it out")
    os.chdir(ROOT)
    place = Path(REAL_FOLDER if videos else SCRATCH_FOLDER if scratch else FOLDER)
    console = new_console(highlight=False)
    if not videos:
        return show(synthetic_plan(place, SCRATCH if scratch else SYNTHETIC), place, console)
    console.print("First, two steps find out which clips can be used and who is in which training.")
    first = run_chain(kept_plan(place, videos, options.get("speaker")), place, console, cores=usable_cores())
    if not all(result.done for result in first):
        return conclude(first, place, console)
    console.print()
    people = People.read(place / "people")
    return show(real_plan(place, videos, people, options.get("speaker")), place, console)


def show(steps: Sequence[Step], folder: Path, console: Console) -> int:
    """Runs the steps and returns the exit status."""
    write_plan(steps, folder)
    expected = expected_seconds(steps, cores=2)
    console.print(
        f"{len(steps)} steps, about {expected / 60:.0f} minutes on two idle cores. The trainings are much shorter than "
        "the experiments they are named after.",
        soft_wrap=True,
    )
    results = run_chain(steps, folder, console, cores=usable_cores())
    return conclude(results, (folder / "index.html").absolute(), console)


def write_plan(steps: Sequence[Step], folder: Path) -> None:
    """Writes the titles, reasons and commands of the steps for the page."""
    claim(folder, [PLAN], str(folder))
    content = [{"name": step.name, "title": step.title, "why": step.why, "command": step.typed} for step in steps]
    write_whole(folder / PLAN, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
