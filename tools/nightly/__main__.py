"""``make prove [VIDEOS=DIR] [CLIP=DIR]``: runs what is not proved yet and writes the reports.

    python -m tools.nightly [--videos DIR] [--clip DIR] [--only NAME ...] [--list]

The proofs are data: ``commands.yaml``. Interrupted, the same command goes on where it was; a proof whose command or
input changed is done again. One that fails stops only those that build on it.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from runtime.files import write_whole
from tools.nightly.nightly_plan import Proof, read_proofs
from tools.nightly.nightly_report import full_report, results_page
from tools.pipeline.run_steps import ROOT, Outcome, run_chain
from tools.pipeline.step import ChainError, StepRecord, is_done

FOLDER = Path("outputs/proofs")
RESULTS = Path("docs/results.md")
REPORTS = Path("tools/profiling/reports")


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.nightly", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--videos", type=Path, help="a folder of real talking videos, for the proofs that need them")
    parser.add_argument("--clip", type=Path, help="a folder with the one clip that ETHD learns by heart")
    parser.add_argument("--only", nargs="+", default=["*"], help="names of proofs; * and ? stand for any letters")
    parser.add_argument("--list", action="store_true", help="say what is proved and what is not, and run nothing")
    keys = parser.parse_args(arguments)
    console = Console(highlight=False)
    videos, clip = (path.expanduser().absolute() if path else None for path in (keys.videos, keys.clip))
    for name, path in (("--videos", videos), ("--clip", clip)):
        if path and not path.is_dir():
            print(f"error: {name} {path}: no such folder", file=sys.stderr)
            return 2
    os.chdir(ROOT)
    proofs = read_proofs(FOLDER, videos, clip)
    chosen = [proof for proof in proofs if any(fnmatch.fnmatch(proof.step.name, pattern) for pattern in keys.only)]
    if not chosen:
        print(f"error: --only {' '.join(keys.only)}: no proof has such a name; --list shows them", file=sys.stderr)
        return 2
    if keys.list:
        for proof in chosen:
            state = "proved" if proof.step.name in known(chosen) else "open"
            console.print(f"{state:7} {escape(proof.step.name):24} {escape(proof.step.title)}", soft_wrap=True)
        return 0
    places = {str(path): word for path, word in ((videos, "VIDEOS"), (clip, "CLIP"), (f"{ROOT}/", "")) if path}
    try:
        outcomes = run_chain([proof.step for proof in chosen], FOLDER, console, keep_going=True)
    except ChainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        write_reports(proofs, known(proofs), places)
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
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
    sys.exit(main())
