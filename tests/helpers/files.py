"""Files that are only there, files that are damaged, and files that may not be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def touch(folder: Path, *names: str) -> Path:
    """Makes empty files, and the folders they lie in."""
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def overwrite(path: Path, place: int, content: bytes) -> None:
    """Puts other bytes into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


@contextmanager
def without_privileges() -> Iterator[None]:
    """The file system as an ordinary user sees it; root reads everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
