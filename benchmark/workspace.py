"""Where a system's program runs for one clip: its own view of the repository, and the video it leaves there.

The systems write next to their code, under fixed names or names with the time of day. A view has links to everything,
but own empty folders where the system writes: a job can neither overwrite nor pick up what another wrote, and the
repository stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.process import ProgramExit
from benchmark.system import Patch, System
from runtime.errors import UserError

LAST_WORDS = 160  # characters of a program's last line that a reason quotes


def open_view(repository: Path, folder: Path, writes: Sequence[str], patches: Sequence[Patch]) -> None:
    """Fills a new folder with a view of a repository.

    Args:
        repository: the working copy; nothing in it is changed.
        folder: does not exist yet.
        writes: top-level names the system writes to; those without a dot inside become empty folders, the others,
            files the system makes anew, are left out.
        patches: files of which the job gets its own copy, some lines short.

    Raises:
        UserError: if a patch does not fit the file.
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
    """Real folders down to a file, with links to all its neighbours on the way."""
    for parent in reversed(file.parents[:-1]):
        if (folder / parent).is_symlink() or not (folder / parent).exists():
            (folder / parent).mkdir()
            for entry in (repository / parent).iterdir():
                (folder / parent / entry.name).symlink_to(entry.resolve())


def patched_text(path: Path, patch: Patch) -> str:
    """The file without the lines from ``first`` to ``last``.

    Raises:
        UserError: if it is missing, or not exactly one line holds each.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read to leave out lines ({error.strerror})") from error
    ends = []
    for mark in (patch.first, patch.last):
        found = [index for index, line in enumerate(lines) if mark in line]
        if len(found) != 1:
            raise UserError(
                f"{path}: {len(found)} lines hold {mark!r}, expected one: this is another version. The lines from "
                f"{patch.first!r} to {patch.last!r} must go, because {patch.why}; adapt patches in the system's file"
            )
        ends += found
    if ends[0] > ends[1]:
        raise UserError(f"{path}: {patch.last!r} stands before {patch.first!r}; adapt patches in the system's file")
    return "".join(lines[: ends[0]] + lines[ends[1] + 1 :])


def find_video(system: System, pattern: str, folder: Path, view: Path, ended: ProgramExit, printed: str) -> Path:
    """The one video the program wrote; its exit status is no proof of one.

    Args:
        system: whose it is.
        pattern: where it lands, in the job's folder or relative to its view.
        folder: the job's.
        view: of the repository.
        ended: how the program ended.
        printed: all it printed.

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
    raise UserError(f"wrote no video (exit status {ended.status}): {explained(system, printed)}")


def explained(system: System, printed: str) -> str:
    """Why a program failed, from what it printed."""
    if package := re.search(r"(?:ModuleNotFoundError|ImportError): No module named '([^']+)'", printed):
        return f"its environment lacks the package {package[1]}"
    for symptom in system.symptoms:
        if symptom.text in printed:
            return symptom.means
    return f"its last words: {last_words(printed)}"


def last_words(printed: str) -> str:
    """The last line a program printed."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", printed) if line.strip()]
    return lines[-1][-LAST_WORDS:] if lines else "none"
