"""Atomic writing of files, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import UserError
from runtime.platforms import process_is_gone, sync

SWEEP_PAUSE = 50  # least time between two looks for abandoned files in a folder, in durations of a look
_NEXT_SWEEP: dict[Path, float] = {}  # folder -> time of the next look
# (path, hash, size, mtime) -> digest, so that a process hashes a file once
_DIGESTS: dict[tuple[str, str, int, int], str] = {}


class WriteError(UserError):
    """A path that cannot be written."""

    exit_status = 2


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name next to ``path``, which is renamed to ``path`` after the block or removed if it fails.

    The file or folder is on the disk before it is renamed. After a killed process or a power failure, ``path`` holds
    either the old or the complete new content.

    Raises:
        OSError: If ``path`` cannot be written or the disk is full; names ``path``.
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
    """Writes a small file atomically. Characters that UTF-8 cannot encode are written as escapes.

    Raises:
        OSError: If ``path`` cannot be written or the disk is full; names ``path``.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def partial_of(path: Path) -> Path:
    """Temporary name of a file that is being written.

    Removes temporary files that killed processes of this machine left in the folder. In large folders this is not done
    at every call, so that writing many files takes no longer for each.
    """
    folder, now = path.parent.absolute(), time.monotonic()
    if now >= _NEXT_SWEEP.get(folder, now) and folder.is_dir():
        remove_partials(folder)
        ended = time.monotonic()
        _NEXT_SWEEP[folder] = ended + SWEEP_PAUSE * (ended - now)
    name = path.name.encode(errors="ignore")[:100].decode(errors="ignore")  # a name may have 255 bytes
    return path.with_name(f".{name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


def remove_partials(folder: Path) -> None:
    """Removes temporary files of processes of this machine that have ended."""
    mine = re.compile(rf"\..*\.{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]{{8}}\.partial", re.DOTALL)
    with os.scandir(folder) as entries:
        left = [found for entry in entries if (found := mine.fullmatch(entry.name))]
    for found in left:
        if process_is_gone(int(found[1])):
            with suppress(OSError):  # removed by another process, or another user's
                remove(folder / found[0])


def take_name(partial: Path, path: Path) -> None:
    """Renames ``partial`` to ``path`` once it is on the disk."""
    sync(partial)
    os.replace(partial, path)


def remove(path: Path) -> None:
    """Removes a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def below(folder: Path) -> Iterator[Path]:
    """Yields the files and folders below a folder, also while other processes change it, where ``rglob`` can fail.

    Links to folders are yielded but not followed.
    """
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *names))


def bytes_below(path: Path) -> int:
    """Bytes of a file, or of the files below a folder, also while other processes change it; 0 if it is missing."""
    size = 0
    for each in (path, *below(path)):
        with suppress(FileNotFoundError):
            status = each.stat()
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size


def require_writable(path: Path, setting: str | None = None) -> None:
    """Creates the folder of a file and checks, before any work, that the file can be written.

    Args:
        path: Path of the file, which need not exist.
        setting: Key and value that name it, for the message; ``output=PATH`` by default.

    Raises:
        WriteError: If the file cannot be written or is a folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # the temporary name is short, the final one may be too long
        probe = partial_of(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        file = next((folder for folder in path.parents if os.path.exists(folder) and not os.path.isdir(folder)), None)
        reason = error.strerror if file is None else f"{file} is a file, not a folder"
        wrong = f"{setting or f'output={path}'}: cannot be written ({reason})"
        if error.errno == errno.ENAMETOOLONG:
            size = len(os.fsencode(path.name))
            raise WriteError(f"{wrong}: {path.name[:40]}... has {size} bytes; choose a shorter name") from error
        raise WriteError(f"{wrong}; choose a folder that can be written") from error
    except ValueError as error:  # a NUL, or a character that the file system cannot store
        wrong = f"{setting or f'output={path}'}"
        raise WriteError(f"{wrong!r}: is not a possible file name ({error}); choose another") from error


def read_regular(path: Path, most: int) -> bytes:
    """Reads a file that others may have written.

    Args:
        path: The file.
        most: Largest size, bytes.

    Raises:
        OSError: If it cannot be read, is larger, or is no regular file: a pipe or device may have no end.
    """
    size = _require_regular(path).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"has {size} bytes, expected at most {most}", str(path))
    return path.read_bytes()


def sha256_of(path: str | Path) -> str:
    """Hexadecimal sha256 of a file. Cached per process until the file's size or time changes."""
    return _digest(Path(path), "sha256")


def git_blob_of(path: str | Path) -> str:
    """Hash of a file as ``git hash-object`` prints it."""
    return _digest(Path(path), "git")


def _digest(path: Path, kind: str) -> str:
    status = _require_regular(path)
    key = (str(path.resolve()), kind, status.st_size, status.st_mtime_ns)
    if key not in _DIGESTS:
        digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {status.st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _DIGESTS[key] = digest.hexdigest()
    return _DIGESTS[key]


def _require_regular(path: Path) -> os.stat_result:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))  # a pipe or device may have no end
    return status
