"""Datasets whose paths name the speaker and the clip: VoxCeleb2, CelebV-HQ, TalkingHead-1KH and VFHQ.

    dev/mp4/id00012/21Uxsk56VDQ/00001.mp4                          VoxCeleb2: speaker id00012
    35666/M2Ohb0FAaJU_1.mp4                                        CelebV-HQ: speaker M2Ohb0FAaJU, a YouTube id
    train/cropped_clips/--Y9imYnfBw_0000_S0_E271_L504_T63_R792_B351.mp4     TalkingHead-1KH: speaker --Y9imYnfBw
    Clip+_0tf2n3rlJU+P0+C1+F5319-5428.mp4                          VFHQ: speaker _0tf2n3rlJU_P0, a person of a video

Folders above the part that is shown are ignored. The speakers of CelebV-HQ and TalkingHead-1KH are the videos that the
clips were cut from: one person may have several. A sound file that is named as the clip, in any folder, replaces the
video's own track, as in VoxCeleb2's ``aac`` folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource, Reason
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import Entry, LayoutError, Listing, problem
from preparation.layouts.mead import EMOTION_OF
from runtime.json_text import parse_json

YOUTUBE = r"[A-Za-z0-9_-]{11}"


class NamedDataset(Dataset):
    """Base class of datasets with one regular expression for the paths of clips.

    Attributes:
        pattern: Matches the end of the path below the source, without its extension. All groups make the key, those
            whose names begin with ``speaker`` the speaker.
        example: A path, for the message about others.
        uncut: Matches names of videos that clips were cut from; they are counted and not read. None if there are none.
    """

    pattern: ClassVar[re.Pattern[str]]
    example: ClassVar[str]
    uncut: ClassVar[re.Pattern[str] | None] = None

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts the videos of the listing to clips; see ``Dataset.clips``."""
        emotions = self.emotions(config)
        sounds = {key: entry for entry in reversed(listing.sounds) if (key := self._key(entry)) is not None}
        found: dict[str, Entry] = {}
        clips: list[ClipSource] = []
        for entry in listing.videos:
            match = self._match(entry)
            if match is None:
                if self.uncut is not None and self.uncut.fullmatch(entry.stem):
                    listing.ignored["uncut videos"] += 1
                else:
                    clips.append(problem(entry, Reason.UNKNOWN_NAME, f"expected e.g. {self.example}"))
                continue
            key = _joined(match)
            speaker = "_".join(text for name, text in match.groupdict().items() if name.startswith("speaker"))
            if (other := found.setdefault(key, entry)) is not entry:
                clips.append(problem(entry, Reason.DUPLICATE, f"the same clip exists as {other.name}", speaker))
                continue
            sound = sounds.pop(key, None)
            clips.append(
                ClipSource(
                    key=key,
                    path=entry.path,
                    name=entry.name,
                    speaker=speaker,
                    split="train",
                    audio=sound.path if sound else None,
                    emotion=emotions.get(entry.original.stem),
                )
            )
        if sounds:
            listing.ignored["sound files without a video"] += len(sounds)
        return clips, []

    def emotions(self, config: DatasetConfig) -> Mapping[str, str]:
        """Emotion of each file name without extension, where the dataset has annotations."""
        del config
        return {}

    def _match(self, entry: Entry) -> re.Match[str] | None:
        return re.search(rf"(?:^|/)(?:{self.pattern.pattern})$", str(entry.original.with_suffix("")), re.ASCII)

    def _key(self, entry: Entry) -> str | None:
        match = self._match(entry)
        return None if match is None else _joined(match)


def _joined(match: re.Match[str]) -> str:
    """Key of a clip; a YouTube id may begin with a dash, which a file name on a command line should not."""
    key = "_".join(group for group in match.groups() if group)
    return f"v{key}" if key.startswith("-") else key


class VoxCeleb2(NamedDataset):
    """VoxCeleb2: face crops of 224 pixels of 6,112 people, with the sound in the videos or in files of its own."""

    name = "voxceleb2"
    pattern = re.compile(rf"(?P<speaker>id\d{{5}})/({YOUTUBE})/(\d{{5}})")
    example = "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"


class CelebVHQ(NamedDataset):
    """CelebV-HQ; ``dataset.annotations`` is its ``celebvhq_info.json``, for clips with one emotion."""

    name = "celebv_hq"
    pattern = re.compile(rf"(?P<speaker>{YOUTUBE})_(\d{{1,4}})")
    example = "M2Ohb0FAaJU_1.mp4"
    uncut = re.compile(YOUTUBE)
    annotated = True

    def emotions(self, config: DatasetConfig) -> Mapping[str, str]:
        """Emotions of the annotated clips that have one, by the names of MEAD.

        Raises:
            LayoutError: If the file cannot be read, or is another one.
        """
        if config.annotations is None:
            return {}
        path = Path(config.annotations)
        try:
            clips = parse_json(path.read_text(encoding="utf-8"))["clips"]
            labels = {name: clip["attributes"]["emotion"]["labels"] for name, clip in clips.items()}
        except OSError as error:
            raise LayoutError(f"dataset.annotations={path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LayoutError(
                f"dataset.annotations={path}: has no emotions of clips ({json.dumps(str(error))}); expected "
                "celebvhq_info.json"
            ) from error
        return {name: EMOTION_OF[label] for name, label in labels.items() if str(label) in EMOTION_OF}


class TalkingHead1KH(NamedDataset):
    """TalkingHead-1KH; its scripts name a clip by video, minute, first and last frame, and box."""

    name = "talkinghead_1kh"
    pattern = re.compile(rf"(?P<speaker>{YOUTUBE})_(\d{{4}})_(S\d+)_(E\d+)_(L\d+)_(T\d+)_(R\d+)_(B\d+)")
    example = "train/cropped_clips/--Y9imYnfBw_0000_S0_E271_L504_T63_R792_B351.mp4"
    uncut = re.compile(rf"{YOUTUBE}(?:_\d{{4}})?")


class VFHQ(NamedDataset):
    """VFHQ as clips; the number of a person counts within one video."""

    name = "vfhq"
    pattern = re.compile(rf"Clip\+(?P<speaker_video>{YOUTUBE})\+(?P<speaker_person>P\d+)\+(C\d+)(?:\+(F\d+-\d+))?")
    example = "Clip+_0tf2n3rlJU+P0+C1+F5319-5428.mp4"
    uncut = re.compile(YOUTUBE)
