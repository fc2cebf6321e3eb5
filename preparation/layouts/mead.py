"""MEAD: parses actor, camera, emotion, level and sentence from the path, and finds the sound file of each video.

    M003/video/front/angry/level_1/001.mp4      as published, with its sound in
    M003/audio/angry/level_1/001.m4a            (the videos have no usable sound track)
    M003/front/angry/level_1/001.mp4            community copies, in any mixture:
    M003/angry/level_1/001.mp4
    M003/front/angry/level_1/M003_front_angry_level_1_001.mp4
    M003#angry#level_1#001.mp4
    M030_front_angry_level3_001.mp4
    M030_angry_3_001.mp4, M030_ang_3_001.mp4

Folders above the actor's (``MEAD/Part0/M003/...``) are ignored. After the actor the path may contain, in any order, the
words video or audio, a camera (front, down, top, left_30, left_60, right_30, right_60), an emotion (also as anger,
happiness, fearful, ... or its first three letters) and a level (level_1, level1, l1 or 1). It ends in the number of the
sentence. Neutral has only level 1, which may be left out. A path that does not parse, or a neutral clip of another
level, is reported with the reason ``unknown_name``.

The sound file of a clip is an m4a, wav, flac, mp3, aac, ogg or opus file that is named in one of these ways, has the
same sentence and does not name another camera. Of several the one that shares most folders with the video is used.
Preparation later compares the lengths of sound and picture, because MEAD has sound files with two sentences (M034,
fear, level_3, 028: 17 s), and because a recording of M003 is missing, which shifts its sentence numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath

from configs.preparation import DatasetConfig
from datamodules.splits.clip_names import EMOTIONS, MeadSentence
from preparation.clip_source import ClipSource, Reason
from preparation.layouts.dataset import Dataset
from preparation.layouts.listing import SOUND_ENDINGS, Entry, LayoutError, Listing, problem

VIEWS = ("front", "down", "top", "left_30", "left_60", "right_30", "right_60")
UNDERSTOOD = (
    "expected e.g. M003/video/front/angry/level_1/001.mp4, M003/front/angry/level_1/001.mp4, "
    "M003/angry/level_1/001.mp4, M003#angry#level_1#001.mp4, M003_front_angry_level3_001.mp4 or M003_angry_3_001.mp4"
)

_ALIASES = {
    "angry": "anger ang",
    "contempt": "contemptuous con",
    "disgusted": "disgust dis",
    "fear": "fearful fea",
    "happy": "happiness hap",
    "neutral": "neu",
    "sad": "sadness",
    "surprised": "surprise sur",
}
EMOTION_OF = {word: emotion for emotion in EMOTIONS for word in (emotion, *_ALIASES[emotion].split())}

# Known problems of the published data, shown as a note if the source folder has the actor.
ACTOR_NOTES = {
    "M003": "a recording is missing, so the sentence numbers differ from those of the other actors",
    "M011": "some emotions and cameras were not published",
    "M019": "some emotions and cameras were not published",
    "W017": "published with the camera 'down' only",
}
SENTENCE_NOTES = {
    MeadSentence("M034", "fear", 3, 28): "known defect of MEAD: the published sound has two sentences (17 s)"
}


@dataclass(frozen=True)
class MeadName:
    """Parsed MEAD path: the sentence, and the camera or None."""

    sentence: MeadSentence
    view: str | None

    @property
    def key(self) -> str:
        """Key of the clip, the same for every layout: ``M003_front_angry_level_1_001``."""
        sentence = self.sentence
        view = f"{self.view}_" if self.view else ""
        return f"{sentence.actor}_{view}{sentence.emotion}_level_{sentence.level}_{sentence.number:03d}"


def parse(relative: PurePosixPath) -> MeadName:
    """Parses the MEAD path of a video or sound file.

    Raises:
        ValueError: If a part of the path is missing, unknown or contradicts another.
    """
    words = re.split(r"[/#_\-\s.]+", str(relative.with_suffix("")).lower())
    start = next((place for place, word in enumerate(words) if re.fullmatch(r"[mw]\d{3}", word)), None)
    if start is None:
        raise ValueError("no actor (M003, W009, ...)")
    found: dict[str, str] = {}
    numbers: list[str] = []
    rest = iter(range(start, len(words)))
    for place in rest:
        word, following = words[place], words[place + 1] if place + 1 < len(words) else ""
        if re.fullmatch(r"[mw]\d{3}", word):
            _note(found, "actor", word.upper())
        elif word in ("video", "videos", "audio", "audios"):
            continue
        elif word in ("front", "down", "top"):
            _note(found, "camera", word)
        elif word in ("left", "right") and following in ("30", "60"):
            _note(found, "camera", f"{word}_{following}")
            next(rest)
        elif re.fullmatch(r"(left|right)(30|60)", word):
            _note(found, "camera", f"{word[:-2]}_{word[-2:]}")
        elif word in EMOTION_OF:
            _note(found, "emotion", EMOTION_OF[word])
        elif word in ("level", "lv", "l") and following in ("1", "2", "3"):
            _note(found, "level", following)
            next(rest)
        elif re.fullmatch(r"(?:level|lv|l)[123]", word):
            _note(found, "level", word[-1])
        elif re.fullmatch(r"\d{1,3}", word):
            numbers.append(word)
        else:
            raise ValueError(f"'{word}' is not a camera, emotion, level or number")
    if len(numbers) == 2 and numbers[0] in ("1", "2", "3") and "level" not in found:
        _note(found, "level", numbers.pop(0))
    if "emotion" not in found:
        raise ValueError("no emotion")
    if len(set(numbers)) != 1:
        raise ValueError(f"expected one sentence number, found {', '.join(numbers) or 'none'}")
    if found["emotion"] == "neutral" and found.setdefault("level", "1") != "1":
        raise ValueError(f"neutral has level 1 only, not {found['level']}")
    if "level" not in found:
        raise ValueError("no level")
    sentence = MeadSentence(found["actor"], found["emotion"], int(found["level"]), int(numbers[0]))
    return MeadName(sentence, found.get("camera"))


def _note(found: dict[str, str], what: str, value: str) -> None:
    if found.setdefault(what, value) != value:
        raise ValueError(f"two different {what}s, {found[what]} and {value}")


def clips_of(listing: Listing, views: list[str]) -> tuple[list[ClipSource], list[str]]:
    """Converts every video of the listing to a clip with its sound; the caller assigns ``split``.

    Args:
        listing: Files of the source folder; ignored files are counted in ``listing.ignored``.
        views: Cameras to keep, empty for all. Clips without a camera in their path are always kept.

    Returns:
        The clips, including those with a ``problem`` whose path does not parse, and notes on the dataset.

    Raises:
        LayoutError: If ``views`` has an unknown camera.
    """
    unknown = sorted(set(views) - set(VIEWS))
    if unknown:
        raise LayoutError(f"dataset.views: MEAD has no camera {', '.join(unknown)}; it has {', '.join(VIEWS)}")
    sounds = _sounds_by_sentence(listing)
    clips: list[ClipSource] = []
    first: dict[str, Entry] = {}
    actors: Counter[str] = Counter()
    used: set[Entry] = set()
    unnamed_views = 0
    for entry in listing.videos:
        try:
            name = parse(entry.original)
        except ValueError as error:
            clips.append(problem(entry, Reason.UNKNOWN_NAME, f"{error}; {UNDERSTOOD}"))
            continue
        actors[name.sentence.actor] += 1
        sound = _nearest(entry, name, sounds[name.sentence])
        if sound:
            used.add(sound)
        if views and name.view and name.view not in views:
            listing.ignored[f"clips of camera {name.view}, not in dataset.views"] += 1
            continue
        unnamed_views += bool(views) and name.view is None
        other = first.setdefault(name.key, entry)
        if other is not entry:
            detail = f"the same clip exists as {other.name}"
            clips.append(problem(entry, Reason.DUPLICATE, detail, name.sentence.actor))
            continue
        clips.append(_clip(entry, name, sound))
    unpaired = sum(len(group) for group in sounds.values()) - len(used)
    if unpaired:
        listing.ignored["sound files without a video"] += unpaired
    notes = [f"{actor}: {note}" for actor, note in ACTOR_NOTES.items() if actors[actor]]
    if unnamed_views:
        notes.append(f"{unnamed_views} clips without a camera in their path were kept although dataset.views is set")
    return clips, notes


def _clip(entry: Entry, name: MeadName, sound: Entry | None) -> ClipSource:
    known = SENTENCE_NOTES.get(name.sentence)
    return ClipSource(
        key=name.key,
        path=entry.path,
        name=entry.name,
        speaker=name.sentence.actor,
        split="train",
        audio=sound.path if sound else None,
        emotion=name.sentence.emotion,
        level=name.sentence.level,
        view=name.view,
        notes=(known,) if known else (),
    )


def _sounds_by_sentence(listing: Listing) -> dict[MeadSentence, list[tuple[MeadName, Entry]]]:
    sounds = defaultdict(list)
    for entry in listing.sounds:
        try:
            name = parse(entry.original)
        except ValueError:
            listing.ignored["sound files whose path does not parse"] += 1
        else:
            sounds[name.sentence].append((name, entry))
    return sounds


def _nearest(video: Entry, name: MeadName, sounds: list[tuple[MeadName, Entry]]) -> Entry | None:
    """Returns the sound file of the sentence that shares most folders with the video and names no other camera."""
    fitting = [entry for sound, entry in sounds if sound.view in (None, name.view) or name.view is None]

    def order(sound: Entry) -> tuple[int, int, str]:
        shared = 0
        for ours, theirs in zip(video.relative.parts[:-1], sound.relative.parts[:-1], strict=False):
            if ours != theirs:
                break
            shared += 1
        return -shared, SOUND_ENDINGS.index(sound.relative.suffix.lower()), str(sound.relative)

    return min(fitting, key=order, default=None)


class MEAD(Dataset):
    """MEAD. Scheme ``official`` splits by sentence, not by speaker; use it only to compare with published tables."""

    name = "mead"
    splits = {"emotivetalk": "mead_emotivetalk", "peer": "mead_peer_edtalk", "official": "mead_official"}
    shared_speakers = ("official",)

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts the videos of the listing to clips; see ``clips_of``."""
        return clips_of(listing, config.views)
