"""A job's own view of a repository: links to everything, but own empty folders where the system writes.

The systems write beside their code, under fixed names or names with the time of day. In a view of its own, a job can
neither overwrite nor pick up what another wrote, and the repository stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.system import Patch
from runtime.errors import UserError


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
