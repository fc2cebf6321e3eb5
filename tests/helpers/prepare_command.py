"""Runs prepare.py as a command, and reads what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from datamodules.schema import Index
from preparation.check import check
from tests.helpers import ROOT, warm


def command(**keys) -> list[str]:
    return [sys.executable, "prepare.py", *[f"{key.replace('__', '.')}={value}" for key, value in keys.items()]]


def prepare(**keys) -> subprocess.CompletedProcess:
    return warm.run(command(**keys), cwd=ROOT)


def made(output: Path, **keys) -> Index:
    """Prepares shards, checks that there is no complaint, and returns their index."""
    done = prepare(output=output, **keys)
    assert done.returncode == 0, done.stderr
    assert check(output) == []
    return Index.read(output)


def report(folder: Path) -> dict[str, dict]:
    return {clip["source"]: clip for clip in json.loads((folder / "report.json").read_text())["clips"]}
