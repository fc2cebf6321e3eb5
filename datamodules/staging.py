"""Where shards come from: a local folder, a node-local staging copy, or a URL that is staged before it is read.

A root is one of

    /data/hdtf                              a folder
    https://host/path                       fetched with curl
    s3://bucket/prefix                      fetched with ``aws s3 cp``
    pipe:ssh store cat /mnt/hdtf/{name}     any command that writes the file to standard output

``{name}`` stands for the file (``index.json`` or a shard); a command must hold it, a URL may (signed URLs), else the
name is appended. URLs are opened by WebDataset's ``gopen``, which runs commands in a shell: name only roots you trust.

Staged shards lie in ``<stage>/<digest of the dataset>/<shard>``, shared by all processes of a node. At most ``gib`` GiB
of complete and half-fetched shards are kept, the least recently opened going first. Files a process still has open when
they are removed keep their space until it closes them; a reader holds at most ``ShardReader.OPEN_FILES`` of them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shlex
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Protocol

from filelock import FileLock, Timeout
from webdataset.gopen import gopen

from datamodules.schema import INDEX_NAME, Index, ShardEntry, ShardError
from runtime.platforms import open_for_reading, user_id

GIB = 2**30
STAGE_NAME = "emotivetalk-shards"
_CHUNK = 2**20
_REMOTE = re.compile(r"(pipe:|[a-z][a-z0-9+.-]*://)")


class ShardSource(Protocol):
    """Opens shards."""

    def open(self, shard: ShardEntry) -> int:
        """A file descriptor of the whole shard, open for reading; the caller closes it.

        Raises:
            ShardError: when it cannot be had, or has another size than the index says.
        """
        ...


def is_remote(root: str) -> bool:
    """Whether a root is a URL or a command instead of a folder."""
    return _REMOTE.match(root) is not None


def address(root: str, name: str) -> str:
    """What ``gopen`` must be given to read one file of a remote root.

    Raises:
        ShardError: for a command without ``{name}``.
    """
    if root.startswith("pipe:"):
        if "{name}" not in root:
            raise ShardError(f"data root {root!r}: a pipe: command must hold {{name}}, e.g. pipe:cat /mnt/x/{{name}}")
        return root.replace("{name}", shlex.quote(name))
    url = root.replace("{name}", name) if "{name}" in root else f"{root.rstrip('/')}/{name}"
    return f"pipe:aws s3 cp {shlex.quote(url)} -" if url.startswith("s3://") else url


def fetch(url: str, into: BinaryIO) -> str:
    """Copies what a URL or command gives into an open file; returns its sha256.

    Raises:
        ShardError: naming the command and its exit status.
    """
    digest = hashlib.sha256()
    stream = None
    try:
        stream = gopen(url)
        while chunk := stream.read(_CHUNK):
            into.write(chunk)
            digest.update(chunk)
        stream.close()  # a command that failed after its last byte says so here
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        status = getattr(stream, "status", None)
        outcome = f"exit status {status}" if status is not None else str(error)
        raise ShardError(
            f"{url.removeprefix('pipe:')}: could not be fetched ({outcome}); run the command or open the address by "
            "hand to see why, and check data.root"
        ) from error
    return digest.hexdigest()


def read_index(root: str) -> Index:
    """Reads ``index.json`` from a folder or URL.

    Raises:
        ShardError: when it cannot be had or used.
    """
    if not is_remote(root):
        return Index.read(Path(root).expanduser())
    url = address(root, INDEX_NAME)
    with tempfile.TemporaryFile() as file:
        fetch(url, file)
        file.seek(0)
        try:
            text = file.read().decode()
        except UnicodeDecodeError as error:
            raise ShardError(f"{url}: not an index ({error}); check data.root") from error
    return Index.from_json(text, url)


def shard_source(root: str, index: Index, stage_to: str | None, stage_gib: float) -> ShardSource:
    """How the shards of a root are opened: in place for a local folder, else through a staging folder.

    Args:
        root: folder, URL or command.
        index: the root's index.
        stage_to: the staging folder; None reads local folders in place and stages others under the system's
            temporary folder, in a folder of this user.
        stage_gib: bound on the staging folder, GiB.
    """
    if stage_to is None and not is_remote(root):
        return LocalShards(Path(root).expanduser())
    folder = Path(stage_to).expanduser() if stage_to else Path(tempfile.gettempdir()) / f"emotivetalk-{user_id()}"
    return StagedShards(root, index, folder, stage_gib)


class LocalShards:
    """Shards that are read where they lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, shard: ShardEntry) -> int:
        """See ``ShardSource``."""
        path = self.folder / shard.name
        try:
            return open_whole(path, shard)
        except OSError as error:
            raise ShardError(f"{path}: cannot be read ({error.strerror}); the index lists it") from error


class StagedShards:
    """Shards that are copied to a bounded node-local folder on first use; see the head of this file.

    Args:
        root: folder, URL or command they come from.
        index: the root's index: sizes and hashes to check the copies against.
        folder: the staging folder; made when absent, for this user alone.
        gib: bound, GiB.

    Raises:
        ShardError: when the folder cannot be made, or a shard alone is larger than the bound.
    """

    def __init__(self, root: str, index: Index, folder: Path, gib: float) -> None:
        largest = max((shard.bytes for shard in index.shards), default=0)
        if largest > gib * GIB:
            raise ShardError(f"data.stage_gib is {gib:g}, but a shard of {root} has {largest / GIB:.3g} GiB; raise it")
        self.root = root
        # A folder of our own: what else the user keeps in stage_to is not ours to count, and never ours to remove.
        self.stage = folder = folder / STAGE_NAME
        self.bound = int(gib * GIB)
        contents = "\n".join([root, *(f"{shard.name} {shard.sha256}" for shard in index.shards)])
        self.folder = folder / hashlib.sha256(contents.encode()).hexdigest()[:16]
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            (folder / ".locks").mkdir(exist_ok=True)
        except OSError as error:
            raise ShardError(f"{self.folder}: cannot be made ({error.strerror}); set data.stage_to") from error

    def open(self, shard: ShardEntry) -> int:
        """See ``ShardSource``; the copy is checked against the index's sha256 when it is made."""
        path = self.folder / shard.name
        with contextlib.suppress(FileNotFoundError):
            return self._opened(path, shard)
        with self._lock(path):
            with contextlib.suppress(FileNotFoundError):
                return self._opened(path, shard)  # another process was faster
            return self._copy(shard, path)

    def _opened(self, path: Path, shard: ShardEntry) -> int:
        descriptor = open_whole(path, shard)
        os.utime(descriptor)  # the times of use order what goes first
        return descriptor

    def _copy(self, shard: ShardEntry, path: Path) -> int:
        """Fetches a shard while its lock is held; returns the copy opened, which stays valid if evicted at once."""
        part = path.with_name(path.name + ".part")
        try:
            self._make_room(shard, part)
            with part.open("r+b") as file:
                digest = self._fetch(shard, file)
                file.flush()
                found = file.tell()
                if found != shard.bytes or digest != shard.sha256:
                    raise ShardError(
                        f"{self.root}: {shard.name} arrived with {found} bytes and sha256 {digest}, its index says "
                        f"{shard.bytes} bytes and {shard.sha256}; run prepare.py task=check where the shards were made"
                    )
                part.replace(path)
                return os.open(path, os.O_RDONLY) if path.exists() else os.dup(file.fileno())
        except OSError as error:
            raise ShardError(
                f"{path}: cannot be staged ({error.strerror}); free space, lower data.stage_gib or set data.stage_to"
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, shard: ShardEntry, file: BinaryIO) -> str:
        if is_remote(self.root):
            return fetch(address(self.root, shard.name), file)
        descriptor = LocalShards(Path(self.root).expanduser()).open(shard)
        digest = hashlib.sha256()
        with os.fdopen(descriptor, "rb") as source:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
        return digest.hexdigest()

    def _make_room(self, shard: ShardEntry, part: Path) -> None:
        """Removes old shards until this one fits, and reserves its space by a sparse file of its size."""
        while True:
            with FileLock(self.stage / ".locks" / "stage.lock"):
                files = sorted(self._staged(), key=lambda item: item[1].st_mtime)
                used = sum(status.st_size for _, status in files)
                for file, status in files:
                    if used + shard.bytes <= self.bound:
                        break
                    if self._removed(file):
                        used -= status.st_size
                if used + shard.bytes <= self.bound:
                    part.touch()
                    os.truncate(part, shard.bytes)
                    return
            time.sleep(0.2)  # what is left is being fetched by others, and can be removed once it is complete

    def _staged(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for file in self.stage.glob("*/*.tar*"):
            if re.fullmatch("[0-9a-f]{16}", file.parent.name) and file.suffix in (".tar", ".part"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((file, file.stat()))
        return found

    def _removed(self, file: Path) -> bool:
        """Removes a staged file, unless it is a copy that another process is making right now."""
        if file.suffix != ".part":
            file.unlink(missing_ok=True)
            return True
        try:
            with self._lock(file.with_suffix(""), timeout=0):
                file.unlink(missing_ok=True)  # left by a process that was killed
                return True
        except Timeout:
            return False

    def _lock(self, path: Path, timeout: float = -1) -> FileLock:
        return FileLock(self.stage / ".locks" / f"{path.parent.name}-{path.name}.lock", timeout=timeout)


def open_whole(path: Path, shard: ShardEntry) -> int:
    """Opens a shard whose size is the index's.

    Raises:
        OSError: when it cannot be opened.
        ShardError: when it was cut short or replaced.
    """
    descriptor = open_for_reading(path)
    found = os.fstat(descriptor).st_size
    if found != shard.bytes:
        os.close(descriptor)
        raise ShardError(
            f"{path}: has {found} bytes, its index says {shard.bytes}; the shard was cut short or replaced: run "
            "prepare.py task=check on its folder, then copy or prepare it again"
        )
    return descriptor
