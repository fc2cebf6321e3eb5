"""Empty files, damaged files, and files without read permission."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def touch(folder: Path, *names: str) -> Path:
    """Creates empty files and their folders."""
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def overwrite(path: Path, place: int, content: bytes) -> None:
    """Overwrites the bytes of a file from ``place`` on."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Drops root privileges inside the context, because root can read all files."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
