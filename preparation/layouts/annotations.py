"""HDTF's annotation files: the spans and crops of the clips in the downloaded videos.

For each subset (RD, WDA, WRA) of https://github.com/MRzzm/HDTF, folder ``HDTF_dataset``:

    RD_annotion_time.txt   Radio11.mp4 00:30-01:00 01:30-02:30     (sic) the spans; clip 0, clip 1, ...
    RD_crop_wh.txt         Radio11_1.mp4 557 478 0 478             clip: left, width, top, height in pixels ...
    RD_resolution.txt      Radio11.mp4 720                         ... of a video of this height
    RD_video_url.txt       Radio11 https://www.youtube.com/watch?v=XtySvTwIOfw     optional

A byte order mark and Windows line ends are accepted. The published files (2021-10-05) have 369 videos with 436 spans,
17.07 h in total; 421 clips have a crop. Three crops are higher than their reference resolution, and the resolution of
KevinMcCarthy1 is 0. These crops cannot be scaled, so their clips are reported as ``bad_annotation``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from datamodules.splits.clip_names import HDTF_SUBSETS
from preparation.clip_source import Reason
from preparation.layouts.listing import LayoutError

_TIMES, _CROPS, _HEIGHTS, _ADDRESSES = "annotion_time", "crop_wh", "resolution", "video_url"
_SPAN = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{2})-(?:(\d+):)?(\d{1,3}):(\d{2})")


@dataclass(frozen=True)
class Segment:
    """One annotated span of one video.

    Attributes:
        subset: RD, WDA or WRA.
        video: Name of the video, without extension.
        number: Index of the span in its video, from 0.
        start: Start of the span in the video, seconds.
        end: End of the span in the video, seconds.
        crop: (left, top, width, height) in pixels of a picture of height ``height``; None with a ``problem``.
        height: Reference height, pixels.
        youtube: YouTube id of the video, None if the file of addresses lacks it.
        problem: Reason why the span cannot be used, or None.
        detail: Explanation of ``problem``.
    """

    subset: str
    video: str
    number: int
    start: float
    end: float
    crop: tuple[int, int, int, int] | None
    height: int | None
    youtube: str | None
    problem: Reason | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """Name of the clip, e.g. ``RD_Radio11_001``."""
        return f"{self.subset}_{self.video}_{self.number:03d}"


@dataclass(frozen=True)
class UnreadLine:
    """Line that could not be read: file, line number from 1, text, and the problem."""

    file: Path
    number: int
    text: str
    detail: str


@dataclass
class Annotations:
    """Contents of all annotation files of a folder.

    Attributes:
        segments: Spans, in the order of the files.
        bad_lines: Lines without a usable video or clip.
        left_over: Kind of entry -> number of entries that belong to no span.
    """

    segments: list[Segment] = field(default_factory=list)
    bad_lines: list[UnreadLine] = field(default_factory=list)
    left_over: Counter[str] = field(default_factory=Counter)


def read_annotations(folder: Path) -> Annotations:
    """Reads the annotation files of every subset in ``folder``.

    Raises:
        LayoutError: If the folder or a file is missing or is not text.
    """
    subsets = [subset for subset in HDTF_SUBSETS if (folder / f"{subset}_{_TIMES}.txt").is_file()]
    if not subsets:
        raise LayoutError(
            f"dataset.annotations={folder}: has none of {', '.join(f'{s}_{_TIMES}.txt' for s in HDTF_SUBSETS)}; give "
            "the folder HDTF_dataset of https://github.com/MRzzm/HDTF"
        )
    annotations = Annotations()
    for subset in subsets:
        _read_subset(folder, subset, annotations)
    return annotations


def _read_subset(folder: Path, subset: str, annotations: Annotations) -> None:
    files = {kind: folder / f"{subset}_{kind}.txt" for kind in (_TIMES, _CROPS, _HEIGHTS, _ADDRESSES)}
    times = _table(files[_TIMES], annotations.bad_lines)
    crops = _table(files[_CROPS], annotations.bad_lines)
    heights = _table(files[_HEIGHTS], annotations.bad_lines)
    addresses = _table(files[_ADDRESSES], annotations.bad_lines) if files[_ADDRESSES].is_file() else {}
    ids = {video: youtube_id(values[0]) for video, values in addresses.items()}
    names = set()
    for video, spans in times.items():
        for number, text in enumerate(spans):
            names.add(f"{video}_{number}")
            segment = _segment(subset, video, number, text, crops, heights, ids.get(video))
            annotations.segments.append(segment)
    annotations.left_over["crops without a span"] += len(crops.keys() - names)
    annotations.left_over["addresses without a span"] += len(addresses.keys() - times.keys())


def _segment(
    subset: str,
    video: str,
    number: int,
    text: str,
    crops: dict[str, list[str]],
    heights: dict[str, list[str]],
    youtube: str | None,
) -> Segment:
    """Builds a span with its crop, or with the reason why it has none."""
    start, end = _span(text)
    problem, detail, crop, height = None, "", None, None
    words = crops.get(f"{video}_{number}")
    if end <= start:
        problem, detail = Reason.BAD_ANNOTATION, f"{subset}_{_TIMES}.txt: '{text}' is not a span mm:ss-mm:ss"
    elif words is None:
        problem, detail = Reason.MISSING_CROP, f"{subset}_{_CROPS}.txt has no line for {video}_{number}.mp4"
    else:
        try:
            crop, height = _crop(words, heights.get(video, []))
        except ValueError as error:
            problem = Reason.BAD_ANNOTATION
            detail = f"{subset}_{_CROPS}.txt, {subset}_{_HEIGHTS}.txt: {video}_{number}.mp4: {error}"
    return Segment(subset, video, number, start, end, crop, height, youtube, problem, detail)


def _span(text: str) -> tuple[float, float]:
    """Parses a span to (start, end) in seconds; (0, 0) if the text is not a span."""
    found = _SPAN.fullmatch(text)
    if not found:
        return 0.0, 0.0
    hours, minutes, seconds, end_hours, end_minutes, end_seconds = (int(value or 0) for value in found.groups())
    return 3600.0 * hours + 60 * minutes + seconds, 3600.0 * end_hours + 60 * end_minutes + end_seconds


def _crop(words: list[str], height_words: list[str]) -> tuple[tuple[int, int, int, int], int]:
    """Parses ((left, top, width, height), reference height); the file's order is left, width, top, height."""
    if len(words) != 4 or not all(word.isdecimal() for word in words):
        raise ValueError(f"the crop is '{' '.join(words)}'; expected four whole numbers: left width top height")
    left, width, top, high = map(int, words)
    if width < 1 or high < 1:
        raise ValueError(f"the crop is {width}x{high} pixels")
    if len(height_words) != 1 or not height_words[0].isdecimal() or int(height_words[0]) < 1:
        found = " ".join(height_words) or "missing"
        raise ValueError(f"the reference resolution is '{found}'; expected a height in pixels")
    reference = int(height_words[0])
    if top + high > reference:
        raise ValueError(f"the crop ends at row {top + high}, below the reference picture of {reference} rows")
    return (left, top, width, high), reference


def _table(path: Path, bad_lines: list[UnreadLine]) -> dict[str, list[str]]:
    """Reads a file as a mapping from the first word of each line, without ``.mp4``, to the other words."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise LayoutError(f"{path}: no such file; put it into the folder of HDTF's other annotation files") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path}: cannot be read as text ({error}); download the file again") from error
    table: dict[str, list[str]] = {}
    for number, text in enumerate(lines, start=1):
        name, *values = text.split() or [""]
        name = name.removesuffix(".mp4")
        if not name:
            continue
        if not values:
            bad_lines.append(UnreadLine(path, number, text, "has only a name"))
        elif table.setdefault(name, values) is not values:
            bad_lines.append(UnreadLine(path, number, text, f"names {name} a second time; the first line was used"))
    return table


def youtube_id(address: str) -> str | None:
    """Returns the video id in a YouTube address, or None."""
    parsed = urlparse(address)
    if parsed.netloc.endswith("youtu.be"):
        return parsed.path.strip("/") or None
    return parse_qs(parsed.query).get("v", [None])[0]
