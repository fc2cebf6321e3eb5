"""HDTF: clips that are already cut, or downloaded videos that are cut and cropped by HDTF's annotations.

Cut clips have the names that the dataset's download script gives: subset, video, number of the clip.

    WDA_AmyKlobuchar1_002.mp4     speaker AmyKlobuchar: the name without its numbers
    RD_Radio11_000.mp4            speaker Radio11: the names of radio addresses do not contain the speaker
    hdtf_RD_Radio10_0_clip_0.mp4  a piece of a clip, with a prefix; also WDA_RonWyden1_000#7.mp4
    Radio11_1.mp4                 without the subset, as in HDTF's own description

With ``dataset.annotations=DIR`` (the folder ``HDTF_dataset`` of https://github.com/MRzzm/HDTF) ``source`` contains the
downloaded, uncut videos: ``WDA_AmyKlobuchar1.mp4``, ``AmyKlobuchar1.mp4``, ``sEFJe9g31Vo.mp4`` or ``Title
[sEFJe9g31Vo].mp4``, of any resolution and container. Each annotated span becomes a clip with a name as above and the
number of its annotation. Crops are scaled from their reference resolution to the video's. A span is reported as a
problem if its video or crop is missing, if its annotation contradicts itself, or if it shows the same recording as
another span (WhipJimClyburn is JamesClyburn1).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from configs.preparation import DatasetConfig
from datamodules.splits import read_split
from datamodules.splits.clip_names import hdtf_person
from preparation.clip_source import ClipSource, Reason
from preparation.layouts.annotations import Annotations, Segment, read_annotations
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Entry, Listing, path_key, problem

UNDERSTOOD = "expected e.g. WDA_AmyKlobuchar1_002.mp4, RD_Radio11_0.mp4 or a piece such as RD_Radio11_000_clip_0.mp4"

_CLIP = re.compile(
    r"(?:hdtf[_-])?(?:(?P<subset>RD|WDA|WRA)_)?(?P<video>[^\W\d_](?:[^\W\d_]|-)*\d*)"
    r"_(?P<clip>\d{1,3})(?:(?:_clip)?[_#](?P<piece>\d+))?"
)
_UNCUT = re.compile(r"(?:hdtf[_-])?(?:(?P<subset>RD|WDA|WRA)_)?(?P<video>[^\W\d_](?:[^\W\d_]|-)*\d*)")


def clips_of(listing: Listing) -> list[ClipSource]:
    """Converts every video of the listing to a cut clip; the caller assigns ``split``."""
    people = {person for side in read_split("hdtf_emotivetalk").persons.values() for person in side}
    clips: list[ClipSource] = []
    first: dict[str, Entry] = {}
    uncut: list[tuple[Entry, str | None]] = []
    cut_videos = set()
    for entry in listing.videos:
        found = _CLIP.fullmatch(entry.original.stem)
        if not found or not (found["subset"] or hdtf_person(found["video"]) in people):
            whole = _UNCUT.fullmatch(entry.stem)
            uncut.append((entry, whole["video"] if whole else None))
            continue
        cut_videos.add(found["video"])
        key = _key(entry.original, found)
        other = first.setdefault(key, entry)
        if other is not entry:
            detail = f"the same clip exists as {other.name}"
            clips.append(problem(entry, Reason.DUPLICATE, detail, hdtf_person(found["video"])))
            continue
        speaker = hdtf_person(found["video"])
        clips.append(ClipSource(key=key, path=entry.path, name=entry.name, speaker=speaker, split="train"))
    for entry, video in uncut:
        if video in cut_videos:
            listing.ignored["uncut videos whose clips exist, too"] += 1
            continue
        hint = ""
        if video and hdtf_person(video) in people:
            hint = "; this seems to be an uncut video, which needs dataset.annotations"
        clips.append(problem(entry, Reason.UNKNOWN_NAME, f"not the name of an HDTF clip{hint}; {UNDERSTOOD}"))
    return clips


def _key(relative: PurePosixPath, found: re.Match[str]) -> str:
    """Returns the clip's key (``RD_Radio10_000_clip_0``), independent of the copy's prefix and number of digits."""
    subset = found["subset"] or ("RD" if re.fullmatch(r"Radio\d+", found["video"]) else None)
    piece = f"_clip_{int(found['piece'])}" if found["piece"] else ""
    key = f"{subset}_" * bool(subset) + f"{found['video']}_{int(found['clip']):03d}{piece}"
    return key if key.isascii() else path_key(relative)


def annotated_clips_of(listing: Listing, folder: Path) -> tuple[list[ClipSource], list[str]]:
    """Converts every annotated span to a clip of its downloaded video; the caller assigns ``split``.

    Args:
        listing: Files of the source folder; ignored files are counted in ``listing.ignored``.
        folder: Folder of the annotation files.

    Returns:
        The clips, including unusable ones with their problem, and notes on the dataset.

    Raises:
        LayoutError: If an annotation file is missing or is not text.
    """
    annotations = read_annotations(folder)
    videos = _Videos(listing)
    clips: list[ClipSource] = []
    shown: defaultdict[str, list[Segment]] = defaultdict(list)
    for segment in annotations.segments:
        entries = videos.of(segment)
        twin = next((other for other in shown[segment.youtube or ""] if _overlap(segment, other)), None)
        if segment.youtube and entries and twin is None and segment.problem is None:
            shown[segment.youtube].append(segment)
        clips.append(_clip(segment, entries, twin))
    for line in annotations.bad_lines:
        key = path_key(PurePosixPath(f"{line.file.stem}/{line.number}"), always_hash=True)
        detail = f"'{line.text.strip()}' {line.detail}"
        clips.append(
            ClipSource(
                key=key,
                path=line.file,
                name=f"{line.file.name}, line {line.number}",
                speaker="",
                split="train",
                problem=Reason.BAD_ANNOTATION,
                problem_detail=detail,
            )
        )
    _report_other_videos(listing, videos, clips)
    return clips, _notes(annotations)


class _Videos:
    """Index of downloaded videos by video name and YouTube id."""

    def __init__(self, listing: Listing) -> None:
        self.left = dict.fromkeys(listing.videos)
        self._by_name: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_id: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in listing.videos:
            found = _UNCUT.fullmatch(entry.stem)
            if found:
                self._by_name[found["video"].casefold()].append(entry)
            # yt-dlp writes "Title [id]", youtube-dl "Title-id"; an id is 11 characters and may start with a dash.
            named = re.search(r"(?:^|\[|-)([\w-]{11})\]?$", entry.stem, re.ASCII)
            if named:
                self._by_id[named[1]].append(entry)

    def of(self, segment: Segment) -> list[Entry]:
        """Returns the files with the segment's video, the preferred one first."""
        entries = [*self._by_name[segment.video.casefold()], *self._by_id[segment.youtube or ""]]
        for entry in entries:
            self.left.pop(entry, None)
        return list(dict.fromkeys(entries))


def _overlap(one: Segment, other: Segment) -> bool:
    """Whether two spans with different video names overlap in the same recording."""
    return one.video != other.video and min(one.end, other.end) > max(one.start, other.start)


def _clip(segment: Segment, entries: list[Entry], twin: Segment | None) -> ClipSource:
    reason, detail = segment.problem, segment.detail
    if reason is None and twin is not None:
        reason, detail = Reason.DUPLICATE, f"the same recording as {twin.key} (YouTube {segment.youtube})"
    if not entries:
        address = f" (YouTube {segment.youtube})" if segment.youtube else ""
        reason, detail = Reason.MISSING_VIDEO, f"no file named {segment.video}{address} in the source folder"
    span = "-".join(f"{int(time) // 60:02d}:{int(time) % 60:02d}" for time in (segment.start, segment.end))
    return ClipSource(
        key=segment.key if re.fullmatch(r"[\w-]+", segment.key, re.ASCII) else path_key(PurePosixPath(segment.key)),
        path=entries[0].path if entries else Path(f"{segment.video}.mp4"),
        name=f"{entries[0].name if entries else f'{segment.video}.mp4'} [{span}]",
        speaker=hdtf_person(segment.video),
        split="train",
        start=segment.start,
        end=segment.end,
        crop=segment.crop,
        crop_height=segment.height,
        problem=reason,
        problem_detail=detail,
        notes=tuple(f"also exists as {entry.name}, which was not used" for entry in entries[1:]),
    )


def _report_other_videos(listing: Listing, videos: _Videos, clips: list[ClipSource]) -> None:
    """Counts clips that are already cut as ignored, and reports other videos without an annotation as problems."""
    for entry in videos.left:
        if _CLIP.fullmatch(entry.original.stem):
            listing.ignored["clips cut earlier (the annotations cut the uncut videos)"] += 1
        else:
            detail = "no annotated video has this name or YouTube id; expected e.g. WDA_AmyKlobuchar1.mp4"
            clips.append(problem(entry, Reason.UNKNOWN_NAME, detail))


def _notes(annotations: Annotations) -> list[str]:
    return [f"{count} {what} in the annotation files" for what, count in annotations.left_over.items() if count]


class HDTF(Dataset):
    """HDTF. Scheme ``peer`` has the same speakers in train and test; use it only to compare with published tables."""

    name = "hdtf"
    splits = {"emotivetalk": "hdtf_emotivetalk", "peer": "hdtf_peer_edtalk"}
    shared_speakers = ("peer",)
    annotated = True

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Lists cut clips, or with ``dataset.annotations`` the annotated spans of uncut videos."""
        if config.annotations:
            return annotated_clips_of(listing, Path(config.annotations))
        return clips_of(listing), []
