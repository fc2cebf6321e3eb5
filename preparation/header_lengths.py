"""Lengths of videos while a plan is made, kept in a file so that a planning that was killed goes on where it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from media import look_at, look_at_headers
from media.archives import archive_of
from media.limits import RECORDINGS
from runtime.json_text import parse_json

_File = tuple[str, int, int]  # path, size and time of change


class HeaderLengths:
    """Lengths of videos by their headers or, where asked for, by all their packets.

    Args:
        path: File that keeps them, one line for each; None to keep them in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._by_header: dict[_File, float | None] = {}
        self._exact: dict[_File, float] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # a line that was cut short by the end of its process
                    raw = parse_json(line)
                    file = (str(raw["path"]), int(raw["size"]), int(raw["changed"]))
                    if raw["exact"]:
                        self._exact[file] = float(raw["seconds"])
                    else:
                        self._by_header[file] = None if raw["seconds"] is None else float(raw["seconds"])

    def by_header(self, paths: Sequence[Path]) -> dict[Path, float | None]:
        """Lengths by the headers, seconds; None where only the packets tell. Unknown ones are read in one process."""
        files = {path: _identity(path) for path in paths}
        unknown = [path for path in files if files[path] not in self._by_header]
        found = dict(zip(unknown, look_at_headers(unknown, limits=RECORDINGS), strict=True))
        self._keep([(files[path], seconds, False) for path, seconds in found.items()])
        return {path: self._by_header.get(file) for path, file in files.items()}

    def exact(self, path: Path) -> float:
        """Length by all packets, seconds.

        Raises:
            MediaError: If the file cannot be read.
        """
        file = _identity(path)
        if file not in self._exact:
            self._keep([(file, look_at(path, limits=RECORDINGS).duration, True)])
        return self._exact[file]

    def remove(self) -> None:
        """Removes the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _keep(self, found: Sequence[tuple[_File, float | None, bool]]) -> None:
        with self._lock:
            for file, seconds, exact in found:
                if exact and seconds is not None:
                    self._exact[file] = seconds
                else:
                    self._by_header[file] = seconds
            if self._path is not None:
                lines = [
                    json.dumps(
                        {"path": file[0], "size": file[1], "changed": file[2], "seconds": seconds, "exact": exact}
                    )
                    for file, seconds, exact in found
                ]
                with self._path.open("a", encoding="utf-8") as kept:
                    kept.write("".join(f"{line}\n" for line in lines))


def _identity(path: Path) -> _File:
    try:
        status = (archive_of(path) or path).stat()
    except OSError:
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns
