"""Files that appear whole or not at all, and what identifies a file: its hash."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError
from runtime.platforms import process_is_gone, sync

# (path, hash, size, mtime) -> digest: a file is read for its hash once per process
_DIGESTS: dict[tuple[str, str, int, int], str] = {}


class WriteError(UserError):
    """A place where nothing can be written."""

    exit_status = 2


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name next to ``path``, which becomes ``path`` when the block ends, and goes if it fails.

    What is written there, a file or a folder, is on the disk before it takes the name, so a killed process or a cut of
    power leaves either the old content or the whole new one.

    Raises:
        OSError: naming ``path``, when it cannot be written or the disk is full.
    """
    partial = partial_of(path)
    try:
        yield partial
        take_name(partial, path)
    except OSError as error:
        if error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        remove(partial)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a small file whole or not at all; characters that UTF-8 does not know are written as escapes.

    Raises:
        OSError: naming ``path``, when it cannot be written or the disk is full.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def partial_of(path: Path) -> Path:
    """The temporary name of a file that is being written; removes what killed processes of this machine left of it."""
    name = path.name.encode(errors="ignore")[:100].decode(errors="ignore")  # a name may have 255 bytes
    mark = f".{name}.{socket.gethostname()}-"  # processes of other machines may write here too
    for left in path.parent.glob(f"{glob.escape(mark)}*.partial"):
        process = left.name.removeprefix(mark).removesuffix(".partial").partition("-")[0]
        if process.isdecimal() and process_is_gone(int(process)):
            remove(left)
    return path.with_name(f"{mark}{os.getpid()}-{secrets.token_hex(4)}.partial")


def take_name(partial: Path, path: Path) -> None:
    """Gives what was written as ``partial`` its name, once it is on the disk."""
    sync(partial)
    os.replace(partial, path)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_writable(path: Path, setting: str | None = None) -> None:
    """Makes a file's folder, and says before the work if the file could not be written after it.

    Args:
        path: of the file, which need not exist.
        setting: key and value that name it, for the message; ``output=PATH`` by default.

    Raises:
        WriteError: if it cannot be written, or is a folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = partial_of(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        wrong = f"{setting or f'output={path}'}: cannot be written ({error.strerror})"
        raise WriteError(f"{wrong}; choose a folder that can be written") from error


def sha256_of(path: str | Path) -> str:
    """The file's sha256, hex; read once per process as long as its size and time stay the same."""
    return _digest(Path(path), "sha256")


def git_blob_of(path: str | Path) -> str:
    """What ``git hash-object`` prints for the file."""
    return _digest(Path(path), "git")


def _digest(path: Path, kind: str) -> str:
    status = path.stat()
    key = (str(path.resolve()), kind, status.st_size, status.st_mtime_ns)
    if key not in _DIGESTS:
        digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {status.st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _DIGESTS[key] = digest.hexdigest()
    return _DIGESTS[key]
