"""Where the parts of a joined file start, and the sizes in WAV headers that are wrong.

Files are joined byte by byte by streaming services, radio recorders and ``cat``. FFmpeg reads the first part of most
of them and leaves out the rest without a word. A part is found by the bytes with which its format starts.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, TypeAlias, Union

_BLOCK = 1 << 20  # bytes searched at a time
_LONGEST = 128  # bytes of the longest beginning that is searched for
MAX_PARTS = 10_000
_MISSING = 1000  # numbers of Ogg pages that are lost; of more, a recorder has left out the beginning of a stream
_DOUBTFUL = 1000  # Ogg pages at most whose checksum is computed although no other page follows them
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_UNKNOWN = (0, 0xFFFFFFFF)  # sizes that streams write, since they do not know theirs
_PADDING = 4096  # bytes between an ID3 tag and the first frame that belongs to it
_LONGEST_PATCH = 8  # bytes
_SHORT = 0.05  # seconds of bytes after the sound that need no explanation

ReadableFile: TypeAlias = Union[IO[bytes], "PartFile"]

# FFmpeg's first name of a demuxer -> how a file of it starts, exact enough not to occur by chance.
_STARTS = {
    "wav": rb"(?:RIFF|RF64|BW64).{4}WAVE",
    "w64": rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00",
    "aiff": rb"FORM.{4}AIF[FC]",
    "caf": rb"caff\x00\x01\x00\x00desc",
    "au": rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]",
    "flac": rb"fLaC[\x00\x80]\x00\x00\x22",
    "ogg": rb"OggS\x00[\x00-\x07]",
    "mp3": rb"ID3[\x02-\x04]\x00.[\x00-\x7f]{4}|Xing\x00\x00\x00|Info\x00\x00\x00",
    "aac": rb"ID3[\x02-\x04]\x00.[\x00-\x7f]{4}",
    "amr": rb"#!AMR(?:-WB)?\n",
    "ape": rb"MAC [\x80-\xff]\x0f\x00\x00\x34\x00\x00\x00",
    "wv": rb"wvpk.{4}.\x04.{6}\x00{4}.{4}.[\x08\x18\x09\x19\x0a\x1a\x0b\x1b\x0c\x1c\x0d\x1d\x0e\x1e\x0f\x1f]..",
    "tta": rb"TTA1[\x01\x02]\x00.\x00.\x00",
    "voc": rb"Creative Voice File\x1a",
    "asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
    "matroska": rb"\x1aE\xdf\xa3.{1,60}?\x42\x82.(?:matroska|webm)",
    "avi": rb"RIFF.{4}AVI ",
    "flv": rb"FLV\x01[\x00-\x05]\x00\x00\x00\x09\x00\x00\x00\x00",
    "mxf": rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02[\x01-\x04]\x00",
    "nut": rb"nut/multimedia container\x00",
}
_PATTERNS = {name: re.compile(start, re.DOTALL) for name, start in _STARTS.items()}
# Bytes from the start of an MP3 frame to its Xing header: with MPEG 1 or 2, one channel or two, a checksum or none.
_XING = (36, 21, 13, 38, 23, 15)


@dataclass(frozen=True)
class Part:
    """A part of a file that is a file of its own.

    Attributes:
        start: Place of its first byte in the file.
        size: Its bytes.
        patches: Places in the part and the bytes that are read there instead of its own, ascending.
        note: What is wrong with it, in words; empty if nothing is.
    """

    start: int
    size: int
    patches: tuple[tuple[int, bytes], ...] = ()
    note: str = ""


class PartFile(io.RawIOBase):
    """A part as a file of its own, for reading.

    Args:
        file: The whole file, which is closed with this one.
        part: Part.
        name: Its name, by whose ending FFmpeg also chooses a demuxer.
    """

    def __init__(self, file: ReadableFile, part: Part, name: str) -> None:
        self._file, self._part, self._place = file, part, 0
        self.name = name

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place in the part."""
        self._place = offset + (0, self._place, self._part.size)[whence]
        return self._place

    def tell(self) -> int:
        """Place in the part."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Bytes of the part, patched."""
        left = max(0, self._part.size - self._place)
        self._file.seek(self._part.start + self._place)
        data = bytearray(self._file.read(left if size < 0 else min(size, left)))
        patches = self._part.patches
        for number in range(bisect_left(patches, (self._place - _LONGEST_PATCH, b"")), len(patches)):
            place, patch = patches[number]
            if place >= self._place + len(data):
                break
            for index, byte in enumerate(patch, place - self._place):
                if 0 <= index < len(data):
                    data[index] = byte
        self._place += len(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Reads bytes of the part, patched, into a buffer; returns their number."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def parts_of(file: ReadableFile, kind: str) -> list[Part]:
    """Finds the parts of a joined file.

    Args:
        file: File, opened.
        kind: FFmpeg's name of its demuxer; the first of several counts.

    Returns:
        At least one part, at most ``MAX_PARTS``. WAV headers with wrong sizes are patched, and checksums of Ogg pages
        that hold damage: FFmpeg leaves out such a page, which lasts a second, and is to read the packets around it.
    """
    kind = kind.partition(",")[0]
    size = file.seek(0, os.SEEK_END)
    starts = sorted({0, *_starts(file, kind, size)})[:MAX_PARTS]
    parts = [Part(start, end - start) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    if kind == "ogg":
        return _with_checksums(file, parts, size)
    if kind == "mp3":
        return [_with_length(file, part) for part in parts]
    return [_with_sizes(file, part) for part in parts] if kind == "wav" else parts


def _starts(file: ReadableFile, kind: str, size: int) -> Iterator[int]:
    if kind == "mov":
        yield from _movies(file, size)
    elif kind == "ogg":
        before = True
        for page, data in _found(file, _PATTERNS[kind]):
            first = bool(data[5] & 2)  # the first page of a stream; several streams start together
            if first and not before:
                yield page
            before = first
    elif kind in ("mp3", "aac"):
        yield from _tagged(file, _PATTERNS[kind])
    elif kind in _PATTERNS:
        yield from (place for place, _ in _found(file, _PATTERNS[kind]))


def _found(file: ReadableFile, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    """Places and bytes of all matches, ascending."""
    place, last, kept = 0, -1, b""
    file.seek(0)
    while block := file.read(_BLOCK):
        data = kept + block
        for match in pattern.finditer(data):
            found = place - len(kept) + match.start()
            if found > last:
                last = found
                here = file.tell()
                yield found, match.group()
                file.seek(here)
        place += len(block)
        kept = data[-_LONGEST:]


def _with_checksums(file: ReadableFile, parts: list[Part], size: int) -> list[Part]:
    """Ogg files with the checksums of their pages as they are, and notes on pages that are damaged or cut."""
    end = doubtful = 0
    numbers: dict[bytes, int] = {}  # stream -> number of its last page
    patches: list[list[tuple[int, bytes]]] = [[] for _ in parts]
    lost, cut, index = [0] * len(parts), [False] * len(parts), 0
    for place, _ in _found(file, _PATTERNS["ogg"]):
        if place < end:
            continue
        while index + 1 < len(parts) and place >= parts[index + 1].start:
            index += 1
            numbers.clear()
        head = _bytes(file, place, 27 + 255)
        table = head[27 : 27 + head[26]] if len(head) >= 27 else b""
        length = 27 + len(table) + sum(table)
        page = _bytes(file, place, length)
        follows = len(page) == length >= 27 and _bytes(file, place + length, 4) in (b"OggS", b"")
        if not follows:  # a page that ends elsewhere is whole if its checksum says so
            doubtful += 1
            if len(page) < max(27, length) or doubtful > _DOUBTFUL or page[22:26] != _ogg_checksum(page):
                cut[index] = True
                continue
        end = place + length
        number = int.from_bytes(head[18:22], "little")
        missing = number - numbers.get(head[14:18], number - 1) - 1
        numbers[head[14:18]] = number
        if 0 < missing <= _MISSING:
            lost[index] += missing
            cut[index] = False
        right = _ogg_checksum(page)
        if page[22:26] != right:
            patches[index].append((place + 22 - parts[index].start, right))
    done = []
    for part, patched, missing, ends in zip(parts, patches, lost, cut, strict=True):
        notes = []
        if patched:
            notes.append(f"has {len(patched)} damaged page{'s' * (len(patched) > 1)}, read as far as they can be")
        if missing:
            notes.append(f"lacks {missing} page{'s' * (missing > 1)}, whose sound is missing")
        if ends:
            notes.append("is cut short within a page, whose sound cannot be read")
        done.append(replace(part, patches=tuple(patched), note="; ".join(notes)))
    return done


def _ogg_checksum(page: bytes) -> bytes:
    """The checksum of an Ogg page: CRC-32 with the bits of each byte in the other order than zlib's, from zero."""
    crc = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_MIRRORED)[::-1]


def _with_length(file: ReadableFile, part: Part) -> Part:
    """An MP3 file with a note if it has fewer bytes than its first frame announces."""
    head = _bytes(file, part.start, 10)
    place = part.start
    if head[:3] == b"ID3":
        place += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    for offset in _XING:
        data = _bytes(file, place + offset, 16)
        flags = int.from_bytes(data[4:8], "big")
        if data[:4] in (b"Xing", b"Info") and flags & 2:
            announced = int.from_bytes(data[12:16] if flags & 1 else data[8:12], "big")
            there = part.start + part.size - place
            if there < announced:
                return replace(part, note=f"is cut short: {there} of {announced} bytes of sound are in the file")
    return part


def _movies(file: ReadableFile, size: int) -> Iterator[int]:
    """Places of MP4 files after the first: a file type that follows an index."""
    place, indexed = 0, False
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if name == b"ftyp" and indexed:
            yield place
            indexed = False
        indexed |= name == b"moov"
        if length < 8:  # 0: up to the end of the file
            return
        place += length


def _tagged(file: ReadableFile, pattern: re.Pattern[bytes]) -> Iterator[int]:
    """Places of ID3 tags before frames, and of MP3 frames that describe what follows."""
    after_tag = -1
    for place, data in _found(file, pattern):
        if data.startswith(b"ID3"):
            end = place + 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
            if _is_frame(_bytes(file, end, 4)):
                after_tag = end
                yield place
            continue
        for offset in _XING:
            frame = place - offset
            if frame >= 0 and _is_frame(_bytes(file, frame, 4), layer=3):
                if not after_tag <= frame <= after_tag + _PADDING or after_tag < 0:
                    yield frame
                break


def _is_frame(head: bytes, layer: int | None = None) -> bool:
    """Whether four bytes start a frame of MPEG sound."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return layer is None or (4 - (head[1] >> 1 & 3) == layer and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3)


def _bytes(file: ReadableFile, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _with_sizes(file: ReadableFile, part: Part) -> Part:
    """A WAV file whose sound lasts as long as its header states, or the part with the right size in its place."""
    place, rate, block, wide = 12, 0, 1, None
    while place + 8 <= part.size:
        name, size = struct.unpack("<4sI", _bytes(file, part.start + place, 8))
        if name == b"ds64":
            wide = place + 16  # of 64 bits
        if name == b"fmt ":
            _, _, _, rate, block = struct.unpack("<HHIIH", _bytes(file, part.start + place + 8, 14).ljust(14, b"\0"))
        if name == b"data":
            break
        place += 8 + size + size % 2
    else:
        return part
    if wide is not None:
        size = int.from_bytes(_bytes(file, part.start + wide, 8), "little") if size == 0xFFFFFFFF else size
    left = part.size - place - 8
    there = left // max(1, block) * max(1, block)
    # The last block of a codec may be incomplete in a whole file.
    whole = left >= size and _explained(file, part, place + 8 + size, rate)
    if not rate or there <= 0 or there == size or whole:
        return part
    if size in _UNKNOWN:
        note = "its header gives no length, as that of a stream; read to its end"
    else:
        note = f"its header announces {size / rate:.2f} s of sound, {there / rate:.2f} s are there; all is read"
    patch = (
        (wide, struct.pack("<Q", there)) if wide is not None else (place + 4, struct.pack("<I", min(there, 2**32 - 2)))
    )
    return Part(part.start, part.size, (patch,), note)


def _explained(file: ReadableFile, part: Part, place: int, rate: int) -> bool:
    """Whether what follows the sound is further chunks, or too little to matter."""
    place += place % 2
    if part.size - place < _SHORT * rate:
        return True
    while place + 8 <= part.size:
        name, size = struct.unpack("<4sI", _bytes(file, part.start + place, 8))
        if not all(32 <= byte < 127 for byte in name) or place + 8 + size > part.size + 1:
            return False
        place += 8 + size + size % 2
    return True
