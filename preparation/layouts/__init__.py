"""From a folder of raw videos to a list of clips: who speaks, with which emotion, in which split, with which sound.

``hdtf``, ``mead`` and ``folder`` describe the layouts they read. For all of them:

- Any container PyAV opens is found (mp4, mov, mkv, avi, webm, m4v, mpg, ts, flv, wmv, 3gp, ogv, ...), in any depth of
  folders, through links; hidden files (``._001.mp4``) are not clips. No video is opened here.
- A clip's key is the same on every machine. HDTF and MEAD clips are named as the datasets name them, whatever layout
  the copy has; elsewhere the key is the path, with a hash wherever a name holds more than ASCII letters, digits, _, -.
- Nothing is dropped silently: a clip that cannot be used is listed with its ``problem``, other files are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.preparation import DatasetConfig
from configs.registries import DATASETS
from datamodules.splits import SplitError, assign_splits, require_scheme
from media import VIDEO_ENDINGS
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import LayoutError, list_files, require_unique

__all__ = ["Dataset", "Found", "LayoutError", "find_clips"]


@dataclass
class FoundClips:
    """What a source folder holds.

    Attributes:
        clips: sorted by key, keys unique; those with a ``problem`` among them.
        ignored: what was passed over -> how many (``other files (.txt)``, ``clips of camera top, not in ...``).
        notes: things to know about this copy of the dataset.
    """

    clips: list[ClipSource]
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_clips(dataset: DatasetConfig, source: Path) -> FoundClips:
    """Lists the clips of a dataset.

    Args:
        dataset: its layout (``name``, and ``layout`` for synthetic speakers), cameras, annotations and split.
        source: the folder of raw videos.

    Raises:
        LayoutError: when the folder is missing, unreadable or holds no video, or a setting does not fit the dataset.
    """
    layout: Dataset = DATASETS.get(dataset.name, "dataset.name")()
    if dataset.annotations and not layout.annotated:
        raise LayoutError(f"dataset.annotations: only hdtf has annotation files, not {dataset.name}")
    try:
        require_scheme(dataset.name, dataset.split)
    except SplitError as error:
        raise LayoutError(str(error)) from error
    listing = list_files(source)
    clips, notes = layout.clips(listing, dataset)
    if not listing.videos and not listing.problems:
        there = ", ".join(f"{count} {kind}" for kind, count in listing.ignored.most_common(5)) or "nothing"
        extensions = " ".join(sorted(VIDEO_ENDINGS))
        raise LayoutError(f"source={source}: holds no videos ({extensions}); found {there}")
    clips = sorted([*clips, *listing.problems], key=lambda clip: clip.key)
    require_unique(clips)
    splits = assign_splits(dataset.name, dataset.split, {clip.key: clip.speaker for clip in clips if clip.speaker})
    clips = [replace(clip, split=splits.get(clip.key, clip.split)) for clip in clips]
    return FoundClips(clips, listing.ignored, notes)
