"""Collects the reasons why systems gave no videos from the records of their runs, as a results file for the tables.

    python -m benchmark.not_run runs=runs/sadtalker,runs/hallo dataset=hdtf output=results/not_run.json

``runs`` are outputs of ``python -m benchmark.run_system``. A system with at least one clip is skipped: its evaluation
lists the missing clips.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.cell_names import OWN
from benchmark.tables.reading import NOT_RUN
from configs.options import Readers, path, paths, read_options, run_script
from evaluation.clip_records import SCHEMA as RECORD
from runtime.errors import UserError
from runtime.files import write_whole
from runtime.json_text import read_json
from runtime.ownership import require_own_json

SHOWN = 3  # most frequent reasons in the file; the records hold the reason of every clip


def reason_of(folder: Path) -> tuple[str, str, str] | None:
    """Returns system, mode and reason of a run without clips; None if it gave any.

    Raises:
        UserError: If the folder has no records of this version.
    """
    records = [_record(path) for path in sorted((folder / "records").rglob("*.json"))]
    if not records:
        raise UserError(f"{folder}: has no records/*.json; expected the output of python -m benchmark.run_system")
    if any(entry["record"]["status"] == "done" for entry in records):
        return None
    reasons = Counter(str(entry["record"]["reason"]) for entry in records)
    shown = [f"{reason} ({count} of {len(records)} clips)" for reason, count in reasons.most_common(SHOWN)]
    if len(reasons) > SHOWN:
        shown.append(f"and {len(reasons) - SHOWN} other reasons")
    name = records[0]["record"]["system"]
    return OWN.get(name, name), records[0]["system"]["driven"], "; ".join(shown)


def _record(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a record ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != RECORD:
        raise UserError(f"{path}: is not a record of schema {RECORD}; run the system again")
    return content


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the file.

    Raises:
        UserError: If a folder has no records.
    """
    known: Readers = {"runs": paths, "dataset": str, "output": path}
    options = read_options(__doc__, arguments, known, required=tuple(known))
    require_own_json(options["output"], NOT_RUN.partition("/")[0], f"output={options['output']}")
    rows = []
    for run in options["runs"]:
        if found := reason_of(run):
            system, mode, reason = found
            rows.append({"system": system, "dataset": options["dataset"], "mode": mode, "reason": reason})
    text = json.dumps({"schema": NOT_RUN, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    options["output"].parent.mkdir(parents=True, exist_ok=True)
    write_whole(options["output"], text.encode())
    print(f"{len(rows)} of {len(options['runs'])} runs gave no clip: {options['output']}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
