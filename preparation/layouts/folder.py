"""Any folder of talking videos, one speaker per clip.

    videos/ann/monday.mp4         speaker ann: the name of the sub-folder
    videos/ann/tuesday.MOV        speaker ann
    videos/interview_003.mp4      speaker interview: the file name without the clip number
    videos/Weiß & Müller (1).mp4  speaker "Weiß & Müller"

All clips are in the train split by default. ``dataset.split=person`` assigns each speaker to train, val or test by a
hash of the name (about 80, 10 and 10 percent of the speakers). ``dataset.split=time`` holds out the end of each
speaker's clips. A sound file of the same name in the same folder (``monday.wav`` next to ``monday.mp4``) replaces the
video's own track; other sound files are ignored.

``dataset.speaker`` says otherwise who speaks: the number of the folder below the source that names the speaker
(``1`` for VoxCeleb2's ``id00012/21Uxsk56VDQ/00001.mp4``), or a regular expression that is searched in the path below
the source, whose first group, or whole match, is the name (``^(.{11})_`` for TalkingHead-1KH).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Entry, LayoutError, Listing, path_key

_CLIP_NUMBER = re.compile(r"(?:[\s_#.\-]+(?:clip|part|seg|segment|take)?[\s_#.\-]*\(?\d+\)?)+$", re.IGNORECASE)


def speaker_of(entry: Entry) -> str:
    """Returns the name of the clip's folder; at the top level, the file name without the trailing clip number."""
    if len(entry.relative.parts) > 1:
        return entry.relative.parts[-2]
    return _CLIP_NUMBER.sub("", entry.stem) or entry.stem


def clips_of(listing: Listing, speaker: str | None = None) -> list[ClipSource]:
    """Converts every video of the listing to a clip; the caller assigns ``split``.

    Args:
        listing: Contents of the source folder.
        speaker: ``dataset.speaker``.

    Raises:
        LayoutError: If ``speaker`` is no regular expression, or does not name the speaker of a video.
    """
    sounds = {entry.relative.with_suffix(""): entry.path for entry in listing.sounds}
    videos = {entry.relative.with_suffix("") for entry in listing.videos}
    if unused := len([entry for entry in listing.sounds if entry.relative.with_suffix("") not in videos]):
        listing.ignored["sound files without a video"] += unused
    name = speaker_of if speaker is None else _named_by(speaker)
    return [
        ClipSource(
            key=path_key(entry.relative),
            path=entry.path,
            name=entry.name,
            speaker=name(entry),
            split="train",
            audio=sounds.get(entry.relative.with_suffix("")),
        )
        for entry in listing.videos
    ]


def _named_by(speaker: str) -> Callable[[Entry], str]:
    """Function that names the speaker of a video by ``dataset.speaker``."""
    try:
        pattern = None if speaker.isdecimal() else re.compile(speaker)
    except re.error as error:
        raise LayoutError(
            f"dataset.speaker={speaker}: is no regular expression ({error}); expected one, or the number of a folder"
        ) from error

    def name(entry: Entry) -> str:
        if pattern is None:
            folders = entry.relative.parts[:-1]
            found = folders[int(speaker) - 1] if 1 <= int(speaker) <= len(folders) else ""
        else:
            match = pattern.search(str(entry.relative))
            found = "" if match is None else (match.group(1) if pattern.groups else match.group()) or ""
        if not found:
            raise LayoutError(
                f"dataset.speaker={speaker}: names no speaker for {entry.name}; expected the number of one of its "
                "folders, from 1, or a regular expression that matches the path"
            )
        return found

    return name


class Folder(Dataset):
    """Any folder of videos; all clips are in the train split by default."""

    name = "folder"
    splits = {"emotivetalk": "train"}

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts the videos of the listing to clips; see ``Dataset.clips``."""
        return clips_of(listing, config.speaker), []
