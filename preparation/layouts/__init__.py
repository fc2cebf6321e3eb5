"""Dataset layouts: list the clips of a folder of raw videos with speaker, emotion, split and sound.

The modules ``hdtf``, ``mead``, ``named`` and ``folder`` describe the layouts they read. For all layouts:

- Videos of any container that PyAV opens are found (mp4, mov, mkv, avi, webm, m4v, mpg, ts, flv, wmv, 3gp, ogv, ...),
  in nested folders, through links, and in archives (tar and zip), which are read in place. Hidden files
  (``._001.mp4``) are ignored. No video is opened.
- The key of a clip is the same on every machine. Clips of known datasets get the dataset's name of the clip in any
  layout of the copy. Other clips get their path as key, with a hash if it has more than ASCII letters, digits, _ and -.
- Nothing is dropped silently: a clip that cannot be used is listed with its ``problem``, other files are counted.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.preparation import DatasetConfig
from configs.registries import DATASETS
from datamodules.splits import SplitError, assign_splits, require_scheme
from media import VIDEO_ENDINGS
from preparation.clip_source import ClipSource
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import LayoutError, Listing, list_files, require_unique

__all__ = ["Dataset", "FoundClips", "LayoutError", "find_clips"]


@dataclass
class FoundClips:
    """Contents of a source folder.

    Attributes:
        clips: Clips sorted by key, including those with a ``problem``; keys are unique.
        ignored: Kind of ignored file (``other files (.txt)``, ``clips of camera top, not in ...``) -> count.
        notes: Remarks on this copy of the dataset.
    """

    clips: list[ClipSource]
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_clips(dataset: DatasetConfig, source: Path) -> FoundClips:
    """Lists the clips of a dataset.

    Args:
        dataset: Layout (``name``, and ``layout`` for synthetic speakers), cameras, annotations and split.
        source: Folder of raw videos.

    Raises:
        LayoutError: If the folder is missing, unreadable or has no video, or if a setting does not fit the dataset.
    """
    layout: Dataset = DATASETS.get(dataset.name, "dataset.name")()
    if dataset.annotations and not layout.annotated:
        raise LayoutError(f"dataset.annotations: only hdtf and celebv_hq have annotation files, not {dataset.name}")
    if dataset.list_file is not None and dataset.name != "manifest":
        raise LayoutError(f"dataset.list_file: only manifest takes it; use dataset=manifest instead of {dataset.name}")
    if dataset.speaker is not None and dataset.name != "folder":
        raise LayoutError(f"dataset.speaker: only folder takes it; the paths of {dataset.name} name their speakers")
    try:
        require_scheme(dataset.name, dataset.split)
    except SplitError as error:
        raise LayoutError(str(error)) from error
    listing = list_files(source)
    clips, notes = layout.clips(listing, dataset)
    if not listing.videos and not listing.problems:
        found = ", ".join(f"{count} {kind}" for kind, count in listing.ignored.most_common(5)) or "nothing"
        extensions = " ".join(sorted(VIDEO_ENDINGS))
        packed = f"; {_packed(listing)}" if listing.archives else ""
        raise LayoutError(f"source={source}: has no videos ({extensions}); found {found}{packed}")
    notes = [*notes, *listing.notes]
    if listing.archives:
        notes.append(_packed(listing))
    clips = sorted([*clips, *listing.problems], key=lambda clip: clip.key)
    require_unique(clips)
    splits = assign_splits(dataset.name, dataset.split, {clip.key: clip.speaker for clip in clips if clip.speaker})
    clips = [
        clip if layout.own_splits and clip.split else replace(clip, split=splits.get(clip.key, clip.split))
        for clip in clips
    ]
    return FoundClips(clips, listing.ignored, notes)


def _packed(listing: Listing) -> str:
    """What to do with archives that are not read in place: each is unpacked where it lies."""
    first = listing.archives[0]
    folder, ending = first.path.parents[len(first.relative.parts) - 1], first.relative.suffix.lower()
    unpack = {".zip": "unzip -q", ".7z": "7z x", ".rar": "7z x"}.get(ending, "tar -xf")
    return (
        f"{len(listing.archives)} archives are compressed as a whole or hold archives, and were not read, the first is "
        f"{first.name}; unpack each in its folder: "
        f"find {shlex.quote(str(folder))} -name '*{first.relative.suffix}' -execdir {unpack} {{}} ';'"
    )
