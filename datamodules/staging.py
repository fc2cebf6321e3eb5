"""Access to shards: in a local folder, by range, or through a node-local folder of copies for slow file systems.

``datamodules/remote.py`` says which roots there are.

Staged shards are ``<stage>/<digest of the dataset>/<shard>``, shared by all processes of a node. Complete and partial
shards take at most ``gib`` GiB; the least recently opened are removed first. A removed file that a process has open
keeps its space until it is closed; a reader has at most ``ShardReader.OPEN_FILES`` open.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from filelock import FileLock, Timeout

from datamodules.ranges import RangedShards, no_ranges_because
from datamodules.remote import address, fetch, is_remote
from datamodules.schema import Index, ShardEntry, ShardError
from runtime.folders import UnsafeFolder, private_folder, private_temporary
from runtime.platforms import open_for_reading
from runtime.verified import verified_once

log = logging.getLogger(__name__)

GIB = 2**30
STAGE_NAME = "emotivetalk-shards"
DECODED = {"speech.flac", "video.mp4"}  # members that FFmpeg decodes
_CHUNK = 2**20
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
BINARY = getattr(os, "O_BINARY", 0)


class ShardSource(Protocol):
    """Opens shards."""

    def open(self, shard: ShardEntry) -> int:
        """Opens a complete shard and returns its file descriptor, which the caller closes.

        Raises:
            ShardError: If it cannot be opened or fetched, or its size differs from the index.
        """
        ...


def shard_source(root: str, index: Index, stage_to: str | None, stage_gib: float) -> ShardSource:
    """Creates the source of a root's shards: in place, by range, or copied to a staging folder.

    Args:
        root: Folder, URL or command.
        index: Index of the root.
        stage_to: Staging folder. With None, local folders are read in place, and remote roots by range. Those that
            cannot be are staged in a folder of this user in the system's temporary folder.
        stage_gib: Maximum size of the staging folder in GiB.
    """
    if stage_to is None and not is_remote(root):
        return VerifiedShards(Path(root).expanduser(), index)
    copies = functools.partial(_staged, root, index, stage_to, stage_gib)
    if stage_to is None and (reason := no_ranges_because(root)) is None:
        return RangedShards(root, copies)
    if stage_to is None:
        log.info("%s: shards are copied whole, %s", root, reason)
    return copies()


def _staged(root: str, index: Index, stage_to: str | None, stage_gib: float) -> StagedShards:
    folder = Path(stage_to).expanduser() if stage_to else private_temporary()
    return StagedShards(root, index, folder, stage_gib)


class LocalShards:
    """Shards of a local folder, read in place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, shard: ShardEntry) -> int:
        """See ``ShardSource``."""
        path = self.folder / shard.name
        try:
            return open_whole(path, shard)
        except OSError as error:
            raise ShardError(
                f"{path}: listed in the index but cannot be read ({error.strerror}); copy or prepare it again"
            ) from error


class VerifiedShards(LocalShards):
    """Shards of a local folder, each compared once with the SHA-256 of the index, and looked at in a child process.

    The outcome is remembered by all processes until the file changes (``runtime/verified.py``).
    """

    def __init__(self, folder: Path, index: Index) -> None:
        super().__init__(folder)
        self._index = index
        self._known: set[tuple[str, int, int]] = set()

    def open(self, shard: ShardEntry) -> int:
        """See ``ShardSource``."""
        descriptor = super().open(shard)
        status = os.fstat(descriptor)
        if (known := (shard.name, status.st_size, status.st_mtime_ns)) in self._known:
            return descriptor
        path = self.folder / shard.name
        try:
            wrong = changed_content(path, shard, descriptor, decoded_members(self._index, shard.name))
        except OSError as error:
            os.close(descriptor)
            raise ShardError(f"{path}: cannot be read ({error.strerror}); copy or prepare it again") from error
        if wrong:
            os.close(descriptor)
            raise ShardError(f"{path}: {wrong}; copy or prepare it again (prepare.py task=check names what is damaged)")
        self._known.add(known)
        return descriptor


class StagedShards:
    """Shards that are copied to a node-local folder of limited size on first use; see the module docstring.

    Args:
        root: Folder, URL or command to copy from.
        index: Index of the root, with sizes and hashes of the shards.
        folder: Staging folder; created if missing, accessible only to this user.
        gib: Maximum size in GiB.

    Raises:
        ShardError: If the folder cannot be created, or a single shard is larger than the maximum.
    """

    def __init__(self, root: str, index: Index, folder: Path, gib: float) -> None:
        largest = max((shard.bytes for shard in index.shards), default=0)
        if largest > gib * GIB:
            raise ShardError(
                f"data.stage_gib={gib:g}: smaller than a shard of {root}, {largest / GIB:.3g} GiB; increase it"
            )
        self.root = root
        self._index = index
        # A subfolder, because other files in stage_to must be neither counted nor removed.
        self.stage = folder = folder / STAGE_NAME
        self.bound = int(gib * GIB)
        contents = "\n".join([root, *(f"{shard.name} {shard.sha256}" for shard in index.shards)])
        self.folder = folder / hashlib.sha256(contents.encode()).hexdigest()[:16]
        try:
            for own in (folder, self.folder, folder / ".locks"):
                private_folder(own)
        except UnsafeFolder as error:
            raise ShardError(f"{error}, or set data.stage_to") from error
        except OSError as error:
            raise ShardError(f"{self.folder}: cannot be created ({error.strerror}); set data.stage_to") from error

    def open(self, shard: ShardEntry) -> int:
        """See ``ShardSource``. A new copy is checked against the SHA-256 of the index."""
        path = self.folder / shard.name
        with contextlib.suppress(FileNotFoundError):
            return self._opened(path, shard)
        with self._lock(path):
            with contextlib.suppress(FileNotFoundError):
                return self._opened(path, shard)  # copied by another process meanwhile
            return self._copy(shard, path)

    def _opened(self, path: Path, shard: ShardEntry) -> int:
        """Opens a copy. One that another user wrote, before the folder was private, is hashed like a new one."""
        descriptor = open_whole(path, shard, links=False)
        try:
            if not is_own(descriptor) and sha256_of_open(descriptor) != shard.sha256:
                raise ShardError(f"{path}: was written by another user and is not the shard of the index; remove it")
            with contextlib.suppress(PermissionError):
                os.utime(descriptor)  # the time of use determines the order of removal
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _copy(self, shard: ShardEntry, path: Path) -> int:
        """Fetches a shard and opens the copy; the caller holds its lock. The descriptor survives an eviction."""
        part = path.with_name(path.name + ".part")
        try:
            self._make_room(shard, part)
            with os.fdopen(os.open(part, os.O_RDWR | NO_LINKS | BINARY), "r+b") as file:
                digest = self._fetch(shard, file)
                file.flush()
                found = file.tell()
                if found != shard.bytes or digest != shard.sha256:
                    raise ShardError(
                        f"{self.root}: {shard.name} has {found} bytes and sha256 {digest}, expected {shard.bytes} "
                        f"bytes and {shard.sha256} by the index; run prepare.py task=check where the shards were made"
                    )
                if wrong := member_problem(part, decoded_members(self._index, shard.name)):
                    raise ShardError(f"{self.root}: {shard.name}: {wrong}")
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
            return fetch(address(self.root, shard.name), file, shard.bytes)
        descriptor = LocalShards(Path(self.root).expanduser()).open(shard)
        digest = hashlib.sha256()
        with os.fdopen(descriptor, "rb") as source:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
        return digest.hexdigest()

    def _make_room(self, shard: ShardEntry, part: Path) -> None:
        """Removes old shards until this one fits, and reserves its space with a sparse file."""
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
                    part.unlink(missing_ok=True)  # left by a process that was killed
                    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o600)
                    try:
                        os.ftruncate(descriptor, shard.bytes)
                    finally:
                        os.close(descriptor)
                    return
            time.sleep(0.2)  # the rest is being fetched by other processes and can be removed once complete

    def _staged(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for file in self.stage.glob("*/*.tar*"):
            if re.fullmatch("[0-9a-f]{16}", file.parent.name) and file.suffix in (".tar", ".part"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((file, file.stat()))
        return found

    def _removed(self, file: Path) -> bool:
        """Removes a staged file unless another process is writing it. Returns whether it was removed."""
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


def is_own(descriptor: int) -> bool:
    """Whether an open file belongs to this user; True where users have no numbers."""
    return not hasattr(os, "getuid") or os.fstat(descriptor).st_uid == os.getuid()


def decoded_members(index: Index, shard: str) -> list[tuple[str, int, int]]:
    """Name, offset and size of the sound and the videos in a shard."""
    samples = index.samples
    codes, names = samples.label_codes("shard")
    if shard not in names:
        return []
    found = []
    for row in np.flatnonzero(codes == names.index(shard)):
        sample = samples[int(row)]
        found += [(f"{sample.key}.{name}", *sample.members[name]) for name in sorted(DECODED & sample.members.keys())]
    return [member for member in found if member[2]]


def member_problem(path: Path, members: Sequence[tuple[str, int, int]]) -> str | None:
    """What is wrong with a member of a shard that a child process looked at before this one decodes it, or None.

    Raises:
        OSError: If the shard cannot be read.
    """
    try:
        from media import MediaError, dangerous_member
    except ModuleNotFoundError:  # latents train without PyAV, and then nothing is decoded
        return None
    try:
        return dangerous_member(path, members) if members else None
    except MediaError as error:
        raise OSError(errno.EIO, str(error)) from error


def changed_content(
    path: Path,
    shard: ShardEntry,
    descriptor: int,
    members: Sequence[tuple[str, int, int]] = (),
    again: bool = False,
) -> str | None:
    """What is wrong with the content of an open shard; None if it has the hash of the index and no dangerous member.

    It is read once by one process, and the outcome is remembered (``runtime/verified.py``), unless ``again``.

    Raises:
        OSError: If it cannot be read.
    """

    def check() -> str | None:
        if sha256_of_open(descriptor) != shard.sha256:
            return "its content was changed: its sha256 differs from the index"
        return member_problem(path, members)

    return verified_once(path, f"{shard.sha256} {sorted(members)}" if members else shard.sha256, check, again)


def sha256_of_open(descriptor: int) -> str:
    """SHA-256 of an open file, whose position is then its beginning."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    os.lseek(descriptor, 0, os.SEEK_SET)  # both descriptors have one position
    return digest


def open_whole(path: Path, shard: ShardEntry, links: bool = True) -> int:
    """Opens a shard and checks its size.

    Args:
        path: File of the shard.
        shard: Its entry in the index.
        links: Whether the file may be a symbolic link.

    Raises:
        OSError: If it cannot be opened.
        ShardError: If its size differs from the index.
    """
    descriptor = open_for_reading(path, links)
    found = os.fstat(descriptor).st_size
    if found != shard.bytes:
        os.close(descriptor)
        raise ShardError(
            f"{path}: has {found} bytes, expected {shard.bytes} by the index; the shard was truncated or replaced: run "
            "prepare.py task=check on its folder, then copy or prepare it again"
        )
    return descriptor
