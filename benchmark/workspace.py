"""Workspace of a system's program for one clip: a view of the repository, and the video that is written there.

The systems write next to their code, under fixed or time-dependent names. A view links to all files of the repository
but has empty folders where the system writes. A job can therefore neither overwrite nor pick up the files of another,
and the repository stays unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.process import ProgramExit
from benchmark.system import Patch, System
from runtime.errors import UserError

MAX_QUOTED = 160  # characters of a program's last line that a message quotes


def open_view(repository: Path, folder: Path, writes: Sequence[str], patches: Sequence[Patch]) -> None:
    """Creates a view of a repository.

    Args:
        repository: Working copy; it is not changed.
        folder: Folder of the view; must not exist.
        writes: Top-level names that the system writes to. Names without a dot become empty folders; the others are
            files that the system creates and are left out.
        patches: Files of which the job gets a copy with some lines removed.

    Raises:
        UserError: If a patch does not fit its file.
    """
    folder.mkdir(parents=True)
    patched = {Path(patch.file).parts[0] for patch in patches}
    for entry in repository.iterdir():
        if entry.name not in writes and entry.name not in patched and entry.name != ".git":
            (folder / entry.name).symlink_to(entry.resolve())
    for name in writes:
        if "." not in name.strip("."):
            (folder / name).mkdir()
    for patch in patches:
        target = folder / patch.file
        _open_parents(repository, folder, Path(patch.file))
        text = patched_text(repository / patch.file, patch)
        target.unlink(missing_ok=True)
        target.write_text(text, encoding="utf-8")


def _open_parents(repository: Path, folder: Path, file: Path) -> None:
    """Creates the real folders down to a file, with links to all neighbours on the way."""
    for parent in reversed(file.parents[:-1]):
        if (folder / parent).is_symlink() or not (folder / parent).exists():
            (folder / parent).mkdir()
            for entry in (repository / parent).iterdir():
                (folder / parent / entry.name).symlink_to(entry.resolve())


def patched_text(path: Path, patch: Patch) -> str:
    """Returns the text of a file without the lines from ``first`` to ``last``.

    Raises:
        UserError: If the file is missing, or the two texts do not occur in exactly one line each.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read to remove lines ({error.strerror})") from error
    ends = []
    for mark in (patch.first, patch.last):
        found = [index for index, line in enumerate(lines) if mark in line]
        if len(found) != 1:
            raise UserError(
                f"{path}: {len(found)} lines contain {mark!r}, expected one: this is another version. Lines "
                f"{patch.first!r} to {patch.last!r} must be removed, because {patch.why}; adapt the system's patches"
            )
        ends += found
    if ends[0] > ends[1]:
        raise UserError(f"{path}: {patch.last!r} comes before {patch.first!r}; adapt the system's patches")
    return "".join(lines[: ends[0]] + lines[ends[1] + 1 :])


def find_video(system: System, pattern: str, folder: Path, view: Path, ended: ProgramExit, printed: str) -> Path:
    """Returns the one video that the program wrote. Its exit status is ignored: some systems end with an error.

    Args:
        system: System that was run.
        pattern: Path pattern of the video, absolute in the job's folder or relative to its view.
        folder: Folder of the job.
        view: View of the repository.
        ended: Exit of the program.
        printed: Its output.

    Raises:
        UserError: If there is no video, or more than one.
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
        raise UserError(f"wrote {len(found)} videos , expected one: {', '.join(path.name for path in found)}")
    raise UserError(f"wrote no video (exit status {ended.status}): {failure_reason(system, printed)}")


def failure_reason(system: System, printed: str) -> str:
    """Returns why a program failed, from its output."""
    if package := re.search(r"(?:ModuleNotFoundError|ImportError): No module named '([^']+)'", printed):
        return f"its environment lacks the package {package[1]}"
    for symptom in system.symptoms:
        if symptom.text in printed:
            return symptom.means
    return f"last output: {last_line(printed)}"


def last_line(printed: str) -> str:
    """Returns the last line of a program's output."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", printed) if line.strip()]
    return lines[-1][-MAX_QUOTED:] if lines else "none"
