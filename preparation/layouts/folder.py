"""Any folder of talking videos, one speaker per clip.

    videos/ann/monday.mp4         speaker ann: the name of the sub-folder
    videos/ann/tuesday.MOV        speaker ann
    videos/interview_003.mp4      speaker interview: the file name without the clip number
    videos/Weiß & Müller (1).mp4  speaker "Weiß & Müller"

All clips are in the train split by default. ``dataset.split=person`` assigns each speaker to train, val or test by a
hash of the name (about 80, 10 and 10 percent of the speakers). ``dataset.split=time`` holds out the end of each
speaker's clips. The video's own sound track is used; separate sound files are ignored.
"""

from __future__ import annotations

import re

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Entry, Listing, path_key

_CLIP_NUMBER = re.compile(r"(?:[\s_#.\-]+(?:clip|part|seg|segment|take)?[\s_#.\-]*\(?\d+\)?)+$", re.IGNORECASE)


def speaker_of(entry: Entry) -> str:
    """Returns the name of the clip's folder; at the top level, the file name without the trailing clip number."""
    if len(entry.relative.parts) > 1:
        return entry.relative.parts[-2]
    return _CLIP_NUMBER.sub("", entry.stem) or entry.stem


def clips_of(listing: Listing) -> list[ClipSource]:
    """Converts every video of the listing to a clip; the caller assigns ``split``."""
    if listing.sounds:
        listing.ignored["sound files next to the videos"] += len(listing.sounds)
    return [
        ClipSource(
            key=path_key(entry.relative), path=entry.path, name=entry.name, speaker=speaker_of(entry), split="train"
        )
        for entry in listing.videos
    ]


class Folder(Dataset):
    """Any folder of videos; all clips are in the train split by default."""

    name = "folder"
    splits = {"emotivetalk": "train"}

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts the videos of the listing to clips; see ``Dataset.clips``."""
        return clips_of(listing), []
