"""Checks this machine, and what is at a path, and says what to do about each finding.

    python -m tools.doctor                     the machine: readers, EGL, /dev/shm, disk, locks, proxies, HOME, SLURM
    python -m tools.doctor path=outputs/ethd/RUN_ID     a run: every checkpoint by its checksums, its export
    python -m tools.doctor path=data/hdtf               data: the numbers of the index, every shard by its hash
    python -m tools.doctor path=ethd.safetensors        an export, or a single checkpoint
    python -m tools.doctor path=videos                  a folder of generated videos

The exit status is 1 if there is a problem, 0 otherwise; notes do not count. Nothing is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.options import path, read_options, run_script
from runtime.console import new_console
from runtime.errors import printable
from runtime.health import Finding, State
from tools.doctor.machine import all_findings
from tools.doctor.places import findings_of

SIGNS = {State.FINE: ("✓", "+", "green"), State.NOTE: ("!", "!", "yellow"), State.PROBLEM: ("✗", "x", "bold red")}
LABEL = 14  # columns of the names of findings


def main(arguments: list[str]) -> int:
    """Prints all findings; returns 1 if one is a problem."""
    place = read_options(__doc__, arguments, {"path": path}).get("path")
    console = new_console(highlight=False)
    found: list[Finding] = []
    with console.status("checking the machine") as status:
        named = None
        if place is not None:
            named = findings_of(place, lambda name: status.update(f"reading {printable(name)}"))
        _show(console, "machine", all_findings(place or Path.cwd()), found)
        if named is not None:
            _show(console, f"{named[0]}  {place}", named[1], found)
    problems, notes = (sum(finding.state is state for finding in found) for state in (State.PROBLEM, State.NOTE))
    if problems or notes:
        console.print(_summary(problems, notes))
    else:
        console.print("Everything is fine.", style="green")
    return 1 if problems else 0


def _show(console: Console, title: str, findings: Iterable[Finding], found: list[Finding]) -> None:
    console.print(Text(printable(title), style="bold"), soft_wrap=True)
    for finding in findings:
        found.append(finding)
        console.print(_row(finding, console.encoding))
    console.print()


def _row(finding: Finding, encoding: str) -> Table:
    """One finding: a sign, its name, what was found, and below it what to do."""
    plain = not encoding.lower().startswith("utf")
    sign, ascii_sign, style = SIGNS[finding.state]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=3, justify="right")
    row.add_column(width=LABEL, overflow="fold")
    row.add_column(overflow="fold")
    text = Text(printable(finding.text))
    if finding.remedy:
        text.append(f"\n{'->' if plain else '→'} {printable(finding.remedy)}", style="cyan")
    row.add_row(Text(ascii_sign if plain else sign, style=style), Text(printable(finding.what)), text)
    return row


def _summary(problems: int, notes: int) -> Text:
    text = Text()
    if problems:
        text.append(f"{problems} problem{'s' * (problems > 1)}", style="bold red")
    if problems and notes:
        text.append(", ")
    if notes:
        text.append(f"{notes} note{'s' * (notes > 1)}", style="yellow")
    return text.append(": each has its remedy above.")


if __name__ == "__main__":
    os.environ.setdefault("GLOG_minloglevel", "2")
    run_script(lambda: main(sys.argv[1:]))
