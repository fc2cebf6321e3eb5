"""Files in archives, read where they lie: ``M003/video.tar/video/front/angry/level_1/001.mp4`` is a path as others.

A member of a tar that is not compressed, and one that is stored in a zip, is read as a range of bytes of the archive. A
compressed member of a zip is decompressed into a nameless temporary file whenever it is opened. Nothing is written
under a name that an archive gives, so neither ``..`` nor a link leads anywhere. What cannot be read is a line of its
own; the other members are used.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from media.parts import Part, PartFile, ReadableFile
from runtime.files import sha256_of

PACKED = (".tar", ".zip")
MAX_MEMBERS = 2_000_000
_MAX_HEADER = 1 << 20  # bytes of one header of a tar, such as a long name
_MAX_DIRECTORY = 512 << 20  # bytes of the list of a zip
_UNSUSPICIOUS = 64 << 20  # bytes to which any member may decompress
_RATIO = 100  # videos and sounds hardly become smaller
_BLOCK = 1 << 20
_METHODS = {9: "deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma", 93: "zstd"}
_LOCAL_MARK = b"PK\3\4"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # mark, length of the name, length of the extra field

_Place = tuple[int, int, int, int | None]  # as in Member


@dataclass(frozen=True)
class Member:
    """Where a file lies in an archive.

    Attributes:
        archive: The archive.
        offset: Place of its first byte in the archive.
        stored: Its bytes in the archive.
        size: Its bytes.
        checksum: CRC-32 of a compressed file; None if it lies there as it is.
        changed: Time at which the archive was written, nanoseconds.
    """

    archive: Path
    offset: int
    stored: int
    size: int
    checksum: int | None
    changed: int


@dataclass(frozen=True)
class Contents:
    """Files of an archive.

    Attributes:
        places: Path in the archive, without ``./`` -> offset, bytes there, bytes, and checksum if compressed.
        problems: Path in the archive, or an empty one for the archive itself, and why it cannot be read.
        replaced: Number of members that a later one of the same path replaces, as in unpacking.
    """

    places: dict[str, _Place] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)


_known: dict[Path, Member] = {}


def contents(archive: Path) -> Contents:
    """Lists the files of an archive, in its order. Kept until the archive changes.

    Raises:
        OSError: If the archive cannot be read.
    """
    status = archive.stat()
    return _contents(archive, status.st_size, status.st_mtime_ns)


def member_of(path: Path) -> Member | None:
    """Where a file lies in an archive; None if no folder of its path is an archive.

    Raises:
        FileNotFoundError: If the archive has no such file.
        OSError: If the archive cannot be read.
    """
    if path in _known:
        return _known[path]
    archive = archive_of(path)
    if archive is None:
        return None
    changed = archive.stat().st_mtime_ns
    place = contents(archive).places.get(path.relative_to(archive).as_posix())
    if place is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return Member(archive, *place, changed)


def archive_of(path: Path) -> Path | None:
    """The archive that holds a file; None if no folder of its path is one."""
    for folder in path.parents:
        if folder.suffix.lower() in PACKED and folder.is_file():
            return folder
    return None


def is_file(path: Path) -> bool:
    """Whether there is such a file, or such a member of an archive."""
    try:
        return member_of(path) is not None or path.is_file()
    except OSError:
        return False


def remember(path: Path, member: Member) -> None:
    """Takes a member from the process that has found it, so that the archive is not listed again."""
    _known[path] = member


def open_file(path: Path) -> ReadableFile:
    """Opens a file, or one in an archive, for reading.

    Raises:
        OSError: If it cannot be read, or if a compressed one is damaged or finds no room for its temporary file.
    """
    member = member_of(path)
    if member is None:
        return path.open("rb")
    if member.checksum is None:
        return PartFile(member.archive.open("rb"), Part(member.offset, member.size), str(path))
    return _decompressed(member)


def hash_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, or of one in an archive. Kept until it changes.

    Raises:
        OSError: If it cannot be read.
    """
    member = member_of(path)
    return sha256_of(path) if member is None else _hash(path, member)


@lru_cache(maxsize=1024)
def _hash(path: Path, member: Member) -> str:
    del member  # part of the cache's key
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _decompressed(member: Member) -> IO[bytes]:
    decompressor, checksum, size = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    try:
        with PartFile(member.archive.open("rb"), Part(member.offset, member.stored), member.archive.name) as packed:
            waiting = b""
            while not decompressor.eof and (waiting := waiting or packed.read(_BLOCK)):
                data = decompressor.decompress(waiting, _BLOCK)
                waiting = decompressor.unconsumed_tail
                checksum, size = zlib.crc32(data, checksum), size + len(data)
                if size > member.size:
                    break
                file.write(data)
        if (size, checksum) != (member.size, member.checksum):
            raise _damaged(f"is damaged in {member.archive.name}; copy the archive again")
        file.seek(0)
    except zlib.error as error:
        file.close()
        raise _damaged(f"is damaged in {member.archive.name} ({error}); copy the archive again") from error
    except OSError as error:
        file.close()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)}: it takes {member.size / 1e6:.0f} MB in {tempfile.gettempdir()}; set "
                f"TMPDIR to a folder with room, or unpack {member.archive.name}",
            ) from error
        raise
    except BaseException:
        file.close()
        raise
    return file


def _damaged(what: str) -> OSError:
    return OSError(errno.EIO, what)


@lru_cache(maxsize=256)
def _contents(archive: Path, size: int, changed: int) -> Contents:
    del changed  # part of the cache's key
    found = Contents()
    seen = 0
    try:
        for name, place in _in_tar(archive, size) if archive.suffix.lower() == ".tar" else _in_zip(archive, size):
            seen += 1
            if seen > MAX_MEMBERS:
                found.problems[""] = f"has more than {MAX_MEMBERS} files; unpack it, or make several of it"
                break
            _take(found, name, place)
    except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OverflowError) as error:
        where = f"after {seen} files " if seen else ""
        found.problems[""] = f"is damaged or cut short {where}({error or 'it ends early'}); copy it again"
    except MemoryError:
        found.problems[""] = f"is damaged after {seen} files: a header is as large as the memory; copy it again"
    return found


def _take(found: Contents, name: str, place: _Place | str) -> None:
    """Adds a member, or the reason why it cannot be read."""
    inside = str(PurePosixPath(name))
    if inside.startswith("/") or ".." in inside.split("/") or "\0" in name:
        found.problems[inside] = "has a path that leads out of the archive; rename it there"
        return
    if found.places.pop(inside, None) or found.problems.pop(inside, None):
        found.replaced.append(inside)
    if isinstance(place, str):
        found.problems[inside] = place
    else:
        found.places[inside] = place


class _Headers(io.BufferedReader):
    """An archive of which headers are read, and nothing that is larger than a header.

    Args:
        archive: The archive.
        most: Bytes of one header.
    """

    def __init__(self, archive: Path, most: int) -> None:
        super().__init__(io.FileIO(archive))
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads a header.

        Raises:
            ValueError: If it is larger.
        """
        if size is not None and size > self._most:
            raise ValueError(f"a header of {size} bytes, expected at most {self._most}")
        return super().read(self._most if size is None or size < 0 else size)


def _in_tar(archive: Path, size: int) -> Iterator[tuple[str, _Place | str]]:
    with _Headers(archive, _MAX_HEADER) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every one
            if member.isdir():
                continue
            if member.issym() or member.islnk():
                yield member.name, f"is a link to {member.linkname!r}; pack the file itself"
            elif not member.isreg() or member.issparse():
                yield member.name, "is a device, a pipe or a file with holes; pack the file itself"
            elif member.offset_data + member.size > size:
                yield member.name, "is cut short with its archive; copy the archive again"
            else:
                yield member.name, (member.offset_data, member.size, member.size, None)
        # tarfile takes a damaged header for the end.
        file.seek(tar.offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no header at byte {tar.offset}")


def _in_zip(archive: Path, size: int) -> Iterator[tuple[str, _Place | str]]:
    with _Headers(archive, _MAX_DIRECTORY) as file, zipfile.ZipFile(file) as packed:
        for member in packed.infolist():
            if member.is_dir():
                continue
            file.seek(member.header_offset)
            mark, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size).ljust(_LOCAL_HEADER.size, b"\0"))
            offset = member.header_offset + _LOCAL_HEADER.size + name + extra
            compressed = member.compress_type != zipfile.ZIP_STORED
            if stat.S_ISLNK(member.external_attr >> 16):
                yield member.filename, "is a link; pack the file itself"
            elif member.flag_bits & 0x1:
                yield member.filename, "is encrypted; unpack the archive"
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                kind = _METHODS.get(member.compress_type, f"method {member.compress_type}")
                yield member.filename, f"is compressed with {kind}; unpack the archive"
            elif mark != _LOCAL_MARK or offset + member.compress_size > size:
                yield member.filename, "is cut short with its archive; copy the archive again"
            elif compressed and member.file_size > max(_UNSUSPICIOUS, _RATIO * member.compress_size):
                yield (
                    member.filename,
                    f"decompresses to {member.file_size / 1e6:.0f} MB, {_RATIO} times its size or more; no video does",
                )
            else:
                stored = member.compress_size
                checksum = member.CRC if compressed else None
                yield member.filename, (offset, stored, member.file_size if compressed else stored, checksum)
