"""``make nightly [VIDEOS=DIR] [CLIP=DIR]``: runs what is not done yet and writes the reports.

    python -m tools.nightly [videos=DIR] [clip=DIR] [only=NAME,NAME] [list=yes]

The checks are data: ``commands.yaml``. Interrupted, the same command goes on where it was; a check whose command or
input changed is done again. One that fails stops only those that build on it.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape

from configs.errors import ConfigError
from configs.options import Readers, folder, names, read_options, run_script, yes
from runtime.console import new_console
from runtime.files import write_whole
from tools.nightly.nightly_plan import NightlyCheck, read_checks
from tools.nightly.nightly_report import full_report, results_page
from tools.pipeline.run_steps import ROOT, StepResult, run_chain
from tools.pipeline.step import ChainError, StepRecord, is_done

FOLDER = Path("outputs/nightly")
RESULTS = Path("docs/results.md")
REPORTS = Path("tools/profiling/reports")


def main(arguments: Sequence[str]) -> int:
    """Reads the command line; returns the exit status."""
    readers: Readers = {"videos": folder, "clip": folder, "only": names, "list": yes}
    options = read_options(__doc__, arguments, readers)
    videos, clip = (options[name].absolute() if name in options else None for name in ("videos", "clip"))
    console = new_console(highlight=False)
    os.chdir(ROOT)
    checks, only = read_checks(FOLDER, videos, clip), options.get("only", ["*"])
    chosen = [check for check in checks if any(fnmatch.fnmatch(check.step.name, pattern) for pattern in only)]
    if not chosen:
        raise ConfigError(f"only={','.join(only)}: no check has such a name; list=yes shows them")
    if options.get("list"):
        for check in chosen:
            state = "done" if check.step.name in known(chosen) else "open"
            console.print(f"{state:7} {escape(check.step.name):24} {escape(check.step.title)}", soft_wrap=True)
        return 0
    places = {str(path): word for path, word in ((videos, "VIDEOS"), (clip, "CLIP"), (f"{ROOT}/", "")) if path}
    try:
        results = run_chain([check.step for check in chosen], FOLDER, console, keep_going=True)
    except KeyboardInterrupt:
        write_reports(checks, known(checks), places)
        raise
    found = {result.step.name: result for result in results}
    for path in write_reports(checks, known(checks) | found, places):
        console.print(f"report  {path}")
    return 0 if all(result.done for result in results) else 1


def known(checks: Sequence[NightlyCheck]) -> dict[str, StepResult]:
    """What was done before and still holds."""
    found = {}
    for check in checks:
        step, record = check.step, StepRecord.read(FOLDER, check.step)
        try:
            if record and is_done(step, FOLDER, step.digest()):
                found[step.name] = StepResult(
                    step, "done before", record.seconds, record.processor_seconds, record.finished
                )
        except ChainError:  # what it reads is gone
            continue
    return found


def write_reports(
    checks: Sequence[NightlyCheck], results: dict[str, StepResult], places: Mapping[str, str]
) -> tuple[Path, Path]:
    """Writes the dated report and the page of results; returns where they are.

    Args:
        checks: all of them.
        results: of those that were run, by name.
        places: folders of this machine -> what the reports call them; they are read on others.
    """
    dated = REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-nightly.md"
    for path, text in ((dated, full_report(checks, results)), (RESULTS, results_page(checks, results))):
        for place, word in places.items():
            text = text.replace(place, word)
        write_whole(path, text)
    return dated, RESULTS


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
