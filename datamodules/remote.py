"""Roots of shards: folders, URLs and commands.

A root is one of

    /data/hdtf                              folder
    https://host/path                       URL, read by range; the index is fetched with curl
    s3://bucket/prefix                      URL, read by range with s3fs; the index is fetched with ``aws s3 cp``
    pipe:ssh store cat /mnt/hdtf/{name}     any command that writes a whole file to standard output

``datamodules/ranges.py`` reads ranges, ``datamodules/staging.py`` copies whole shards.

``{name}`` is replaced by the name of the file (index or shard). A command must contain it. If a URL
does not contain it, the name is appended. WebDataset's ``gopen`` runs commands in a shell: use trusted roots only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from webdataset.gopen import gopen

from datamodules.sample_table import TABLE_NAME, SampleTable
from datamodules.schema import INDEX_NAME, Index, ShardError, checked_table

_CHUNK = 2**20
MAX_INDEX = 2**30  # bytes; that of 100,000 clips has 20 MB
_REMOTE = re.compile(r"(pipe:|[a-z][a-z0-9+.-]*://)")


class Unavailable(ShardError):
    """A file of a remote root that is not there, or cannot be fetched."""


def is_remote(root: str) -> bool:
    """Whether a root is a URL or a command, not a folder."""
    return _REMOTE.match(root) is not None


def location(root: str, name: str) -> str:
    """URL of one file of a remote root that is no command."""
    return root.replace("{name}", name) if "{name}" in root else f"{root.rstrip('/')}/{name}"


def address(root: str, name: str) -> str:
    """Argument of ``gopen`` for one file of a remote root.

    Raises:
        ShardError: If a command does not contain ``{name}``.
    """
    if root.startswith("pipe:"):
        if "{name}" not in root:
            raise ShardError(f"data root {root!r}: a command must contain {{name}}, e.g. pipe:cat /mnt/x/{{name}}")
        return root.replace("{name}", shlex.quote(name))
    url = location(root, name)
    return f"pipe:aws s3 cp {shlex.quote(url)} -" if url.startswith("s3://") else url


def fetch(url: str, into: BinaryIO, most: int) -> str:
    """Copies the content of a URL or the output of a command into an open file and returns its SHA-256.

    Args:
        url: URL, or command of ``gopen``.
        into: Open file.
        most: Bytes that are accepted; it ends after one more.

    Raises:
        Unavailable: If it fails; the message names the command and its exit status.
        ShardError: If it sends more bytes.
    """
    digest = hashlib.sha256()
    stream = None
    try:
        stream = gopen(url)
        room = most + 1
        while room > 0 and (chunk := stream.read(min(_CHUNK, room))):
            into.write(chunk)
            digest.update(chunk)
            room -= len(chunk)
        if room <= 0:
            _end(stream)
            raise ShardError(f"{url.removeprefix('pipe:')}: sends more than the expected {most} bytes; check data.root")
        stream.close()  # raises if the command failed after its last byte
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        status = getattr(stream, "status", None)
        outcome = f"exit status {status}" if status is not None else str(error)
        raise Unavailable(
            f"{url.removeprefix('pipe:')}: could not be fetched ({outcome}); check data.root, and run the command or "
            "open the URL yourself to see the cause"
        ) from error
    return digest.hexdigest()


def _end(stream: Any) -> None:
    """Ends a command before its last byte."""
    if (process := getattr(stream, "proc", None)) is not None:
        process.terminate()
    with contextlib.suppress(OSError):
        stream.close()


def read_index(root: str) -> Index:
    """Reads ``index.json`` and ``index.arrow`` from a folder or URL.

    Raises:
        ShardError: If it cannot be read or used.
    """
    if not is_remote(root):
        return Index.read(Path(root).expanduser())
    url = address(root, INDEX_NAME)
    content, _ = _fetched(url, MAX_INDEX)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ShardError(f"{url}: not an index ({error}); check data.root") from error

    def open_table(digest: str, count: int) -> SampleTable:
        place = address(root, TABLE_NAME)
        return checked_table(*_fetched(place, MAX_INDEX), digest, count, place)

    return Index.from_json(text, url, open_table)


def read_file(root: str, name: str, most: int) -> bytes:
    """Reads a file that a remote root need not have.

    Args:
        root: URL or command.
        name: Name of the file.
        most: Bytes that are accepted.

    Raises:
        Unavailable: If it cannot be fetched. A command that fails may also mean that there is none.
        ShardError: If it has more bytes.
    """
    return _fetched(address(root, name), most)[0]


def _fetched(url: str, most: int) -> tuple[bytes, str]:
    """Content of a URL of an index, and its SHA-256."""
    with tempfile.TemporaryFile() as file:
        digest = fetch(url, file, most)
        file.seek(0)
        return file.read(), digest
