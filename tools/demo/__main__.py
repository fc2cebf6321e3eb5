"""``make demo`` and ``make demo-real VIDEOS=DIR``: runs the steps and says where the page is.

python -m tools.demo
python -m tools.demo --videos DIR
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from preparation.layouts import LayoutError
from runtime.files import write_whole
from tools.demo.demo_plan import PLAN, real_plan, synthetic_plan
from tools.pipeline.clock import told
from tools.pipeline.run_steps import ROOT, run_chain
from tools.pipeline.step import ChainError, Step

SYNTHETIC, REAL = "demo", "demo-real"  # folders, both ignored by git


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description="Trains talking heads and shows them: on drawn speakers, or on your videos.",
        epilog="Interrupted, the same command goes on where it was; delete the folder to begin anew.",
    )
    parser.add_argument(
        "--videos", type=Path, help="a folder of talking videos, one person each, instead of drawn ones"
    )
    keys = parser.parse_args(arguments)
    console = Console(highlight=False)
    videos = keys.videos.expanduser().absolute() if keys.videos else None
    if videos is not None and not videos.is_dir():
        print(f"error: VIDEOS={keys.videos}: is no folder; name the folder of your videos", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    folder = Path(REAL if videos else SYNTHETIC)
    try:
        steps = real_plan(folder, videos) if videos else synthetic_plan(folder)
        return show(steps, folder, console)
    except (ChainError, LayoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130


def show(steps: Sequence[Step], folder: Path, console: Console) -> int:
    """Runs the steps; returns the exit status."""
    write_plan(steps, folder)
    expected = sum(step.seconds or 0 for step in steps)
    console.print(
        f"{len(steps)} steps, about {expected / 60:.0f} minutes on two cores that do nothing else. The trainings are "
        "much shorter than the experiments they are named after, so faces stay rough.",
        soft_wrap=True,
    )
    outcomes = run_chain(steps, folder, console)
    if not all(outcome.done for outcome in outcomes):
        console.print("\nMend what the log says and run the same command again: what is done stays done.")
        return 1
    spent, busy = (sum(getattr(one, key) for one in outcomes) for key in ("seconds", "processor_seconds"))
    console.print(f"\n[bold]All done[/] in {told(spent)}, {told(busy)} of processor time.")
    console.print(f"Open {escape(str((folder / 'index.html').absolute()))}", soft_wrap=True)
    return 0


def write_plan(steps: Sequence[Step], folder: Path) -> None:
    """What the page tells of the steps."""
    folder.mkdir(parents=True, exist_ok=True)
    content = [{"name": step.name, "title": step.title, "why": step.why, "command": step.typed} for step in steps]
    write_whole(folder / PLAN, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
