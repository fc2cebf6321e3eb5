"""Why a system gave no videos, from the records of its run, as a results file the tables read.

    python -m benchmark.not_run RUN_FOLDER... --dataset hdtf --output results/not_run.json

RUN_FOLDER is the output of ``python -m benchmark.run_system``. A system with at least one clip is left to its
evaluation, which lists the missing ones itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.tables.reading import NOT_RUN, TableError
from runtime.files import write_whole

RECORD_SCHEMA = "emotivetalk.system_clip/1"
SHOWN = 3  # reasons told; the records hold every clip's
OWN = {"emotivetalk_a": "emotivetalk", "emotivetalk_av": "emotivetalk"}  # one system of the tables, in two modes


def reason_of(folder: Path) -> tuple[str, str, str] | None:
    """System, mode and reason of a run that gave no clip; None where it gave some.

    Raises:
        TableError: if the folder holds no records of this version.
    """
    records = [_record(path) for path in sorted((folder / "records").rglob("*.json"))]
    if not records:
        raise TableError(f"{folder}: holds no records/*.json; expected the output of python -m benchmark.run_system")
    if any(entry["record"]["status"] == "done" for entry in records):
        return None
    reasons = Counter(str(entry["record"]["reason"]) for entry in records)
    told = [f"{reason} ({count} of {len(records)} clips)" for reason, count in reasons.most_common(SHOWN)]
    if len(reasons) > SHOWN:
        told.append(f"and {len(reasons) - SHOWN} other reasons")
    name = records[0]["record"]["system"]
    return OWN.get(name, name), records[0]["system"]["driven"], "; ".join(told)


def _record(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read as a record ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != RECORD_SCHEMA:
        raise TableError(f"{path}: is no record with the schema {RECORD_SCHEMA}; run the system again")
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.not_run", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--dataset", required=True, help="as cell.dataset names it in evaluate.py")
    parser.add_argument("--output", type=Path, required=True, help="a .json in the folder of the results")
    keys = parser.parse_args(arguments)
    try:
        rows = []
        for run in keys.runs:
            if found := reason_of(run):
                system, mode, reason = found
                rows.append({"system": system, "dataset": keys.dataset, "mode": mode, "reason": reason})
        text = json.dumps({"schema": NOT_RUN, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
        keys.output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(keys.output, text)
    except (TableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(rows)} of {len(keys.runs)} runs gave no clip: {keys.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
