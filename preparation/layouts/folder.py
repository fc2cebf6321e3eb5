"""Any folder of talking videos, one person per clip.

    videos/ann/monday.mp4         speaker ann: clips in sub-folders belong to the person the folder is named after
    videos/ann/tuesday.MOV        speaker ann
    videos/interview_003.mp4      speaker interview: loose clips are grouped by name without the clip number
    videos/Weiß & Müller (1).mp4  speaker "Weiß & Müller"

All clips train, unless ``dataset.split=person`` sends each speaker to train, val or test by a hash of the name (about
80, 10 and 10 percent of the speakers). A sound file beside a video is not used: the video's own track is.
"""

from __future__ import annotations

import re

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Entry, Listing, path_key

_CLIP_NUMBER = re.compile(r"(?:[\s_#.\-]+(?:clip|part|seg|segment|take)?[\s_#.\-]*\(?\d+\)?)+$", re.IGNORECASE)


def speaker_of(entry: Entry) -> str:
    """The folder a clip lies in, or for a loose clip its name without the trailing clip number."""
    if len(entry.relative.parts) > 1:
        return entry.relative.parts[-2]
    return _CLIP_NUMBER.sub("", entry.stem) or entry.stem


def clips_of(listing: Listing) -> list[ClipSource]:
    """Every video of the listing as a clip; ``split`` is still to be assigned."""
    if listing.sounds:
        listing.ignored["sound files beside the videos"] += len(listing.sounds)
    return [
        ClipSource(
            key=path_key(entry.relative), path=entry.path, name=entry.name, speaker=speaker_of(entry), split="train"
        )
        for entry in listing.videos
    ]


class Folder(Dataset):
    """Any folder of videos; all clips train unless a split is asked for."""

    name = "folder"
    splits = {"emotivetalk": "train"}

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """See ``clips_of``."""
        return clips_of(listing), []
