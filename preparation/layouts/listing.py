"""Lists the files of a source folder, in the same order on every machine, and makes keys from their paths.

No file is opened, so that MEAD's 300,000 files take well under a minute; of archives the headers are read. Links to
folders are followed; each folder is read once.

The files of an archive are listed as if it were unpacked in its folder: ``M003/video.tar`` gives
``M003/video/front/...``, with the keys, names and order of the unpacked files. What is unpacked already is not listed
again.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from configs.errors import ConfigError
from media import VIDEO_ENDINGS
from media.archives import PACKED, contents
from preparation.clip_source import ClipSource, Reason

# Order of preference where a clip has several sound files: MEAD publishes m4a, other formats are conversions of it.
SOUND_ENDINGS = (".m4a", ".wav", ".flac", ".mp3", ".aac", ".ogg", ".opus")
ARCHIVE_ENDINGS = (".tar", ".tgz", ".gz", ".zip", ".7z", ".rar")
# Words that people add to a clip's name when they convert it: ``_25fps``, ``-cropped``, ``_512``, ``_256x256``.
_CONVERSION = re.compile(
    r"(?:[_-](?:\d{2,3}fps|crop(?:ped)?|aligned|resized|(?:256|512|1024)(?:px|x\d{3,4})?))+$", re.IGNORECASE
)
MAX_KEY = 60  # with a hash, a piece number and a member name below the limit of 100 characters in a tar


class LayoutError(ConfigError):
    """Raised if a source or annotation folder does not have the layout of the dataset."""


@dataclass(frozen=True)
class Entry:
    """One file.

    Attributes:
        path: Path of the file.
        relative: Path relative to the source folder, with forward slashes, in Unicode's composed form (NFC).
    """

    path: Path
    relative: PurePosixPath

    @property
    def name(self) -> str:
        """Printable relative path; bytes that are not UTF-8 are shown in hexadecimal."""
        return os.fsencode(str(self.relative)).decode("utf-8", "backslashreplace")

    @property
    def stem(self) -> str:
        """File name without extension."""
        return self.relative.stem

    @property
    def original(self) -> PurePosixPath:
        """Relative path without the words that conversions add: ``001_25fps.mp4`` -> ``001.mp4``."""
        return self.relative.with_name(_CONVERSION.sub("", self.stem) + self.relative.suffix)


@dataclass
class Listing:
    """Contents of a source folder.

    Attributes:
        videos: Files with a video extension.
        sounds: Files with a sound extension.
        problems: Unreadable folders, and entries with a video extension that are not regular files.
        archives: Archives that are not read, or hold others, which are not.
        read: Archives that are read in place.
        notes: Remarks on archives.
        ignored: Kind of ignored file -> count.
    """

    videos: list[Entry] = field(default_factory=list)
    sounds: list[Entry] = field(default_factory=list)
    archives: list[Entry] = field(default_factory=list)
    read: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[ClipSource] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def list_files(source: Path) -> Listing:
    """Lists a source folder and all folders in it, sorted by name.

    Raises:
        LayoutError: If ``source`` is missing, is a file, or cannot be read.
    """
    try:
        source.stat()
    except FileNotFoundError:
        raise LayoutError(f"source={source}: no such folder; give the folder with the videos") from None
    except OSError as error:
        raise LayoutError(f"source={source}: cannot be read ({error.strerror}); check its permissions") from error
    if not source.is_dir():
        raise LayoutError(f"source={source}: is a file; give the folder that contains it")
    listing = Listing()
    pending, seen = [(source, PurePosixPath())], set()
    while pending:
        folder, relative = pending.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == source:
                raise LayoutError(
                    f"source={source}: cannot be read ({error.strerror}); check its permissions"
                ) from error
            detail = f"the folder cannot be read ({error.strerror}); check its permissions"
            listing.problems.append(problem(Entry(folder, relative), Reason.UNREADABLE, detail))
            continue
        if (status.st_dev, status.st_ino) in seen:
            listing.ignored["folders reached a second time through a link"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        below = []
        for entry in entries:
            inside = relative / unicodedata.normalize("NFC", entry.name)
            if entry.name.startswith("."):
                listing.ignored["hidden files and folders"] += 1
            elif _is(entry.is_dir):
                below.append((Path(entry.path), inside))
            else:
                _sort_in(Entry(Path(entry.path), inside), _is(entry.is_file), listing)
        pending.extend(reversed(below))
    if listing.read:
        _add_packed(listing)
    return listing


def _is(kind: Callable[[], bool]) -> bool:
    """Returns ``kind()``, and False if it raises, as it does for circular links."""
    try:
        return kind()
    except OSError:
        return False


def _sort_in(entry: Entry, is_file: bool, listing: Listing) -> None:
    extension = entry.relative.suffix.lower()
    if extension in VIDEO_ENDINGS and is_file:
        listing.videos.append(entry)
    elif extension in VIDEO_ENDINGS:
        detail = "is a broken link" if entry.path.is_symlink() else "is not a regular file"
        listing.problems.append(problem(entry, Reason.UNREADABLE, f"{entry.name} {detail}"))
    elif extension in SOUND_ENDINGS and is_file:
        listing.sounds.append(entry)
    elif extension in PACKED and is_file:
        listing.read.append(entry)
    elif extension in ARCHIVE_ENDINGS and is_file:
        listing.archives.append(entry)
    else:
        listing.ignored[f"other files ({extension or 'no extension'})"] += 1


def _add_packed(listing: Listing) -> None:
    """Adds the files of archives, in the order that they would have unpacked."""
    taken = {entry.relative for entry in (*listing.videos, *listing.sounds)}
    for archive in listing.read:
        try:
            found = contents(archive.path)
        except OSError as error:
            detail = f"cannot be read ({error.strerror}); check its permissions"
            listing.problems.append(problem(archive, Reason.UNREADABLE, f"{archive.name} {detail}"))
            continue
        for name, detail in found.problems.items():
            inside = Entry(archive.path / name.lstrip("/"), archive.relative / (name.lstrip("/") or "."))
            if not name or inside.relative.suffix.lower() in (*VIDEO_ENDINGS, *SOUND_ENDINGS):
                listing.problems.append(problem(inside, Reason.UNREADABLE, f"{inside.name} {detail}"))
            else:
                listing.ignored["files of archives that cannot be read"] += 1
        if found.replaced:
            listing.notes.append(
                f"{archive.name}: {len(found.replaced)} files are in it twice, the first is {found.replaced[0]}; the "
                "last of each is used, as if it were unpacked"
            )
        folder, nested = archive.relative.parent, False
        for name in found.places:
            relative = folder / unicodedata.normalize("NFC", name)
            entry = Entry(archive.path / name, relative)
            if any(part.startswith(".") for part in PurePosixPath(name).parts):
                listing.ignored["hidden files and folders"] += 1
            elif relative.suffix.lower() in ARCHIVE_ENDINGS:
                nested = True
            elif relative in taken:
                listing.ignored["files of archives that are there unpacked, or in another archive"] += 1
            else:
                taken.add(relative)
                _sort_in(entry, True, listing)
        if nested:
            listing.archives.append(archive)
    for entries in (listing.videos, listing.sounds):
        entries.sort(key=_place)
    listing.notes.append(f"{len(listing.read)} archives are read in place, without unpacking")


def _place(entry: Entry) -> list[tuple[bool, str]]:
    """Sorts the files of a folder before those of its folders, each by name, as the listing of folders does."""
    parts = entry.relative.parts
    return [(number < len(parts) - 1, part) for number, part in enumerate(parts)]


def problem(entry: Entry, reason: Reason, detail: str, speaker: str = "") -> ClipSource:
    """Returns a clip with a ``problem`` for a file or folder that cannot be used."""
    return ClipSource(
        key=path_key(entry.relative, always_hash=True),
        path=entry.path,
        name=entry.name,
        speaker=speaker,
        split="train",
        problem=reason,
        problem_detail=detail,
    )


def path_key(relative: PurePosixPath, span: str = "", *, always_hash: bool = False) -> str:
    """Makes a clip key from a path: ASCII letters, digits, ``_`` and ``-``, the same on every machine.

    ``ann/talk.mp4`` becomes ``ann--talk``. If the path has anything else (another extension, spaces, ``#``, umlauts,
    ...), those characters are replaced, and eight hexadecimal digits of the path's sha256 keep the key unique. The
    hashed path is in NFC, so that a folder copied from macOS, which decomposes umlauts, gets the same keys.

    Args:
        relative: Path relative to the source folder.
        span: Text that is added to the key of a part of the file; the path has less room then.
        always_hash: Adds the hash to every key.
    """
    room = MAX_KEY - len(span)
    whole = unicodedata.normalize("NFC", str(relative))
    plain = all(re.fullmatch(r"\w+(?:-\w+)*", part, re.ASCII) for part in PurePosixPath(whole).with_suffix("").parts)
    stem = str(PurePosixPath(whole).with_suffix("")).replace("/", "--")
    if plain and relative.suffix == ".mp4" and len(stem) <= room and not always_hash:
        return stem + span
    # Accents are removed before other characters are replaced: "Müller" becomes "Muller", not "M_ller".
    ascii_text = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", ascii_text).strip("_-")[:room]
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return (f"{readable}-{digest}" if readable else digest) + span


def require_unique(clips: Iterable[ClipSource]) -> None:
    """Checks that keys are unique, since clips with equal keys would overwrite each other in a shard.

    Raises:
        LayoutError: If two files have the same key (paths that differ only in Unicode form).
    """
    first: dict[str, ClipSource] = {}
    for clip in clips:
        other = first.setdefault(clip.key, clip)
        if other is not clip:
            raise LayoutError(
                f"{ascii(str(other.path))} and {ascii(str(clip.path))} give the same key {clip.key}; rename one of them"
            )
