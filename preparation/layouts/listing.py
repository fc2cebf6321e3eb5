"""The files under a source folder, in the same order on every machine, and the keys made from their paths.

Nothing is opened, so that MEAD's 300,000 files are listed in well under a minute. Links to folders are followed, each
folder once.
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
from preparation.clip_source import ClipSource, Reason

# In order of preference where one clip has several: MEAD publishes m4a, the others were made from it.
SOUND_ENDINGS = (".m4a", ".wav", ".flac", ".mp3", ".aac", ".ogg", ".opus")
MAX_KEY = 60  # with a hash, a piece number and a member name it stays below the 100 characters a tar has room for


class LayoutError(ConfigError):
    """A source folder or annotation folder that cannot be read as the dataset asks; the message says what to do."""


@dataclass(frozen=True)
class Entry:
    """One file: ``relative`` to the source folder with forward slashes, in Unicode's composed form (NFC)."""

    path: Path
    relative: PurePosixPath

    @property
    def name(self) -> str:
        """The relative path as it can be printed: bytes that are no UTF-8 are shown in hexadecimal."""
        return os.fsencode(str(self.relative)).decode("utf-8", "backslashreplace")

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return self.relative.stem


@dataclass
class Listing:
    """What lies under a source folder.

    Attributes:
        videos: files with a video's extension.
        sounds: files with a sound's extension.
        problems: folders that cannot be read and video files that are none (a broken link, a pipe).
        ignored: kind of file -> how many were passed over.
    """

    videos: list[Entry] = field(default_factory=list)
    sounds: list[Entry] = field(default_factory=list)
    problems: list[ClipSource] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def list_files(source: Path) -> Listing:
    """Lists a source folder and all folders in it, sorted by name.

    Raises:
        LayoutError: when ``source`` is missing, is a file, or cannot be read.
    """
    try:
        source.stat()
    except FileNotFoundError:
        raise LayoutError(f"source={source}: no such folder; give the folder that holds the videos") from None
    except OSError as error:
        raise LayoutError(f"source={source}: cannot be read ({error.strerror}); check its rights") from error
    if not source.is_dir():
        raise LayoutError(f"source={source}: is a file; give the folder that holds it")
    listing = Listing()
    pending, seen = [(source, PurePosixPath())], set()
    while pending:
        folder, relative = pending.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == source:
                raise LayoutError(f"source={source}: cannot be read ({error.strerror}); check its rights") from error
            detail = f"the folder cannot be read: {error.strerror}; its clips are not known"
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
    return listing


def _is(kind: Callable[[], bool]) -> bool:
    """False where the answer is an error: a link that leads in a circle."""
    try:
        return kind()
    except OSError:
        return False


def _sort_in(entry: Entry, is_file: bool, listing: Listing) -> None:
    extension = entry.relative.suffix.lower()
    if extension in VIDEO_ENDINGS and is_file:
        listing.videos.append(entry)
    elif extension in VIDEO_ENDINGS:
        detail = "is a link that leads nowhere" if entry.path.is_symlink() else "is not a regular file"
        listing.problems.append(problem(entry, Reason.UNREADABLE, f"{entry.name} {detail}"))
    elif extension in SOUND_ENDINGS and is_file:
        listing.sounds.append(entry)
    else:
        listing.ignored[f"other files ({extension or 'no extension'})"] += 1


def problem(entry: Entry, reason: Reason, detail: str, speaker: str = "") -> ClipSource:
    """The record of something that cannot become a clip."""
    return ClipSource(
        key=path_key(entry.relative, always_hash=True),
        path=entry.path,
        name=entry.name,
        speaker=speaker,
        split="train",
        problem=reason,
        problem_detail=detail,
    )


def path_key(relative: PurePosixPath, *, always_hash: bool = False) -> str:
    """A clip key from its path: ASCII letters, digits, ``_`` and ``-``, the same on every machine.

    ``ann/talk.mp4`` becomes ``ann--talk``. Whatever that spelling cannot hold (another extension, spaces, ``#``,
    umlauts, ...) is replaced, and eight hexadecimal digits of the sha256 of the whole path keep keys apart. The path is
    hashed in NFC, so that a folder copied from macOS, which splits umlauts in two characters, gets the same keys.
    """
    whole = unicodedata.normalize("NFC", str(relative))
    plain = all(re.fullmatch(r"\w+(?:-\w+)*", part, re.ASCII) for part in PurePosixPath(whole).with_suffix("").parts)
    stem = str(PurePosixPath(whole).with_suffix("")).replace("/", "--")
    if plain and relative.suffix == ".mp4" and len(stem) <= MAX_KEY and not always_hash:
        return stem
    # Letters lose their accents before the rest is replaced: "Müller" reads better as "Muller" than as "M_ller".
    ascii_text = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", ascii_text).strip("_-")[:MAX_KEY]
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def require_unique(clips: Iterable[ClipSource]) -> None:
    """Stops before two clips would overwrite each other in a shard.

    Raises:
        LayoutError: naming the files whose keys are equal (paths that differ in nothing but Unicode form).
    """
    first: dict[str, ClipSource] = {}
    for clip in clips:
        other = first.setdefault(clip.key, clip)
        if other is not clip:
            raise LayoutError(
                f"{ascii(str(other.path))} and {ascii(str(clip.path))} have names that cannot be told apart "
                f"(both give the key {clip.key}); rename one of them"
            )
