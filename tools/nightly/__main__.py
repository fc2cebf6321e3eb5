"""``make prove [VIDEOS=DIR] [CLIP=DIR]``: runs what is not proved yet and writes the reports.

    python -m tools.nightly [videos=DIR] [clip=DIR] [only=NAME,NAME] [list=yes]

The proofs are data: ``commands.yaml``. Interrupted, the same command goes on where it was; a proof whose command or
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
from tools.nightly.nightly_plan import Proof, read_proofs
from tools.nightly.nightly_report import full_report, results_page
from tools.pipeline.run_steps import ROOT, Outcome, run_chain
from tools.pipeline.step import ChainError, StepRecord, is_done

FOLDER = Path("outputs/proofs")
RESULTS = Path("docs/results.md")
REPORTS = Path("tools/profiling/reports")


def main(arguments: Sequence[str]) -> int:
    """Reads the command line; returns the exit status."""
    readers: Readers = {"videos": folder, "clip": folder, "only": names, "list": yes}
    options = read_options(__doc__, arguments, readers)
    videos, clip = (options[name].absolute() if name in options else None for name in ("videos", "clip"))
    console = new_console(highlight=False)
    os.chdir(ROOT)
    proofs, only = read_proofs(FOLDER, videos, clip), options.get("only", ["*"])
    chosen = [proof for proof in proofs if any(fnmatch.fnmatch(proof.step.name, pattern) for pattern in only)]
    if not chosen:
        raise ConfigError(f"only={','.join(only)}: no proof has such a name; list=yes shows them")
    if options.get("list"):
        for proof in chosen:
            state = "proved" if proof.step.name in known(chosen) else "open"
            console.print(f"{state:7} {escape(proof.step.name):24} {escape(proof.step.title)}", soft_wrap=True)
        return 0
    places = {str(path): word for path, word in ((videos, "VIDEOS"), (clip, "CLIP"), (f"{ROOT}/", "")) if path}
    try:
        outcomes = run_chain([proof.step for proof in chosen], FOLDER, console, keep_going=True)
    except KeyboardInterrupt:
        write_reports(proofs, known(proofs), places)
        raise
    found = {outcome.step.name: outcome for outcome in outcomes}
    for path in write_reports(proofs, known(proofs) | found, places):
        console.print(f"report  {path}")
    return 0 if all(outcome.done for outcome in outcomes) else 1


def known(proofs: Sequence[Proof]) -> dict[str, Outcome]:
    """What was proved before and still holds."""
    found = {}
    for proof in proofs:
        step, record = proof.step, StepRecord.read(FOLDER, proof.step)
        try:
            if record and is_done(step, FOLDER, step.digest()):
                found[step.name] = Outcome(
                    step, "done before", record.seconds, record.processor_seconds, record.finished
                )
        except ChainError:  # what it reads is gone
            continue
    return found


def write_reports(
    proofs: Sequence[Proof], outcomes: dict[str, Outcome], places: Mapping[str, str]
) -> tuple[Path, Path]:
    """Writes the dated report and the page of results; returns where they are.

    Args:
        proofs: all of them.
        outcomes: of those that were run, by name.
        places: folders of this machine -> what the reports call them; they are read on others.
    """
    dated = REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-proofs.md"
    for path, text in ((dated, full_report(proofs, outcomes)), (RESULTS, results_page(proofs, outcomes))):
        for place, word in places.items():
            text = text.replace(place, word)
        write_whole(path, text)
    return dated, RESULTS


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
