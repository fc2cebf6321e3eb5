"""``make nightly [VIDEOS=DIR] [CLIP=DIR]``: runs the checks that are not done yet and writes the reports.

    python -m tools.nightly [videos=DIR] [clip=DIR] [only=NAME,NAME] [cores=N] [list=yes]

``commands.yaml`` lists the checks. Checks that need one core run at the same time, at most ``cores`` of them (default:
all cores); others, and those that measure time, run alone. An interrupted run resumes with the same command. A check
runs again if its command or inputs changed. If one fails, only the checks that depend on it are skipped. Each result is
a file of ``tools/nightly/results``, to be committed; ``docs/results.md`` is written from all of them.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from configs.errors import ConfigError
from configs.options import Readers, count, folder, names, read_options, run_script, yes
from runtime.console import new_console
from runtime.files import remove, write_whole
from runtime.platforms import usable_cores
from tools.nightly.measured import MeasuredCheck, code_of, current_commit, read_results, this_environment
from tools.nightly.nightly_plan import NightlyCheck, read_checks
from tools.nightly.nightly_report import full_report, measured_numbers, results_page
from tools.nightly.result_figures import read_curves, write_figures
from tools.pipeline.command import ROOT
from tools.pipeline.display import format_duration
from tools.pipeline.run_steps import StepResult, run_chain
from tools.pipeline.step import RECORDS, ChainError, StepRecord, is_done

FOLDER = Path("outputs/nightly")
RESULTS = Path("docs/results.md")
REPORTS = Path("tools/profiling/reports")
MEASURED, FIGURES = Path("tools/nightly/results"), Path("docs/results")


def main(arguments: Sequence[str]) -> int:
    """Parses the command line, runs the checks and returns the exit status."""
    readers: Readers = {"videos": folder, "clip": folder, "only": names, "cores": count, "list": yes}
    options = read_options(__doc__, arguments, readers)
    videos, clip = (options[name].absolute() if name in options else None for name in ("videos", "clip"))
    console = new_console(highlight=False)
    os.chdir(ROOT)
    checks, only = read_checks(FOLDER, videos, clip), options.get("only", ["*"])
    chosen = [check for check in checks if any(fnmatch.fnmatch(check.step.name, pattern) for pattern in only)]
    if not chosen:
        raise ConfigError(f"only={','.join(only)}: matches no check; list=yes shows their names")
    if options.get("list"):
        for check in chosen:
            state = "done" if check.step.name in known(chosen) else "open"
            console.print(f"{state:7} {escape(check.step.name):24} {escape(check.step.title)}", soft_wrap=True)
        return 0
    places = {str(path): word for path, word in ((videos, "VIDEOS"), (clip, "CLIP"), (f"{ROOT}/", "")) if path}
    recorder, begun = Recorder(checks, console), time.monotonic()
    try:
        results = run_chain(
            [check.step for check in chosen],
            FOLDER,
            console,
            keep_going=True,
            ended=recorder,
            cores=options.get("cores", usable_cores()),
        )
    except KeyboardInterrupt:
        write_reports(checks, known(checks), places)
        raise
    done = sum(result.done for result in results)
    console.print(f"\n{done} of {len(results)} checks done, after {format_duration(time.monotonic() - begun)}")
    found = {result.step.name: result for result in results}
    for path in write_reports(checks, known(checks) | found, places):
        console.print(f"report  {path}")
    return 0 if all(result.done for result in results) else 1


class Recorder:
    """Writes the result of each check that ends.

    Args:
        checks: All checks.
        console: Console for what is not recorded.
        root: The repository.
        folder: Folder of the results.
        kept: Folder of the pictures and tables.
    """

    def __init__(
        self,
        checks: Sequence[NightlyCheck],
        console: Console,
        root: Path = ROOT,
        folder: Path = MEASURED,
        kept: Path = FIGURES,
    ) -> None:
        self.checks = {check.step.name: check for check in checks}
        self.console, self.root, self.folder, self.kept = console, root, folder, kept
        self.commit, self.environment = current_commit(root), this_environment()
        self.code = {paths: code_of(root, paths) for paths in {check.code for check in checks}}

    def __call__(self, result: StepResult) -> None:
        """Writes the result of a check that is done; removes that of one that failed."""
        check, path = self.checks[result.step.name], self.folder / f"{result.step.name}.json"
        if result.state == "failed":
            remove(path)
        if result.state != "done":
            return
        code = self.code[check.code]
        if code_of(self.root, check.code) != code:
            self.console.print(
                f"[yellow]not recorded[/] {result.step.name}: files of {escape(' '.join(check.code))} changed while it "
                f"ran; remove {FOLDER / RECORDS / result.step.name}.json and run it again",
                soft_wrap=True,
            )
            return
        MeasuredCheck(
            result.finished,
            round(result.seconds, 1),
            round(result.processor_seconds, 1),
            self.commit,
            code,
            self.environment,
            measured_numbers(check),
            read_curves(check.step),
            self._copy(check.picture, check.step.name),
            self._table(check.table),
        ).write(path)

    def _table(self, table: Path | None) -> str:
        """Copies a table in Markdown and as CSV; returns the name of the former."""
        if table is not None:
            self._copy(table.with_suffix(".csv"), table.stem)
        return self._copy(table, "" if table is None else table.stem)

    def _copy(self, file: Path | None, stem: str) -> str:
        """Copies a file to the page of results; returns its name there."""
        if file is None:
            return ""
        name = stem + file.suffix
        self.kept.mkdir(parents=True, exist_ok=True)
        write_whole(self.kept / name, file.read_bytes())
        return name


def known(checks: Sequence[NightlyCheck]) -> dict[str, StepResult]:
    """Returns the results of earlier runs that are still valid."""
    found = {}
    for check in checks:
        step, record = check.step, StepRecord.read(FOLDER, check.step)
        try:
            if record and is_done(step, FOLDER, step.digest()):
                found[step.name] = StepResult(
                    step, "done before", record.seconds, record.processor_seconds, record.finished
                )
        except ChainError:  # an input is missing
            continue
    return found


def write_reports(
    checks: Sequence[NightlyCheck], results: dict[str, StepResult], places: Mapping[str, str]
) -> tuple[Path, Path]:
    """Writes the dated report and the page of results; returns their paths.

    Args:
        checks: All checks.
        results: Results of the checks that ran on this machine, by name.
        places: Folders of this machine -> their names in the reports, which are read on other machines.
    """
    dated = REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-nightly.md"
    measured = read_results(MEASURED, [check.step.name for check in checks])
    write_figures(FIGURES, [(check.step.name, check.figure) for check in checks if check.figure], measured)
    for path, text in ((dated, full_report(checks, results)), (RESULTS, results_page(checks, measured))):
        for place, word in places.items():
            text = text.replace(place, word)
        write_whole(path, text)
    return dated, RESULTS


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
