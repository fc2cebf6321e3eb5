"""The video a system's program wrote, or why there is none."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.process import Ended
from benchmark.system import System
from runtime.errors import UserError

LAST_WORDS = 160  # characters of a program's last line that a reason quotes


def find_video(system: System, pattern: str, folder: Path, view: Path, ended: Ended, said: str) -> Path:
    """The one video the program wrote; its exit status is no proof of one.

    Args:
        system: whose it is.
        pattern: where it lands, in the job's folder or relative to its view.
        folder: the job's.
        view: of the repository.
        ended: how the program ended.
        said: all it printed.

    Raises:
        UserError: if there is none, or more than one.
    """
    root = folder if Path(pattern).is_absolute() else view
    relative = Path(pattern).relative_to(folder) if Path(pattern).is_absolute() else Path(pattern)
    unwanted = tuple(system.output.exclude)
    found = [
        path
        for path in root.glob(str(relative))
        if path.is_file() and path.stat().st_size and not (unwanted and path.name.endswith(unwanted))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"wrote {len(found)} videos where one was expected: {', '.join(path.name for path in found)}")
    raise UserError(f"wrote no video (exit status {ended.status}): {explained(system, said)}")


def explained(system: System, said: str) -> str:
    """Why a program failed, from what it printed."""
    if package := re.search(r"(?:ModuleNotFoundError|ImportError): No module named '([^']+)'", said):
        return f"its environment lacks the package {package[1]}"
    for symptom in system.symptoms:
        if symptom.text in said:
            return symptom.means
    return f"its last words: {last_words(said)}"


def last_words(said: str) -> str:
    """The last line a program printed."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    return lines[-1][-LAST_WORDS:] if lines else "none"
