"""Parsing of HDTF and MEAD clip names.

HDTF: ``WDA_AmyKlobuchar1_002`` is the third clip of the second video of Amy Klobuchar in the subset WDA. The names of
weekly radio addresses (``RD_Radio11_000``) do not contain the speaker, so each of those videos is a speaker of its own.

MEAD: ``M003_front_angry_level_1_001`` is sentence 1 of actor M003.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
HDTF_SUBSETS = ("RD", "WDA", "WRA")

# Speakers with two names. WhipJimClyburn and JamesClyburn1 are the same recording.
HDTF_ALIASES = {"WhipJimClyburn": "JamesClyburn", "AOC": "AlexandriaOcasioCortez"}

_HDTF_ID = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))(?:(RD|WDA|WRA)_)([^\W\d_](?:[^\W\d_]|-)*\d*)_(\d{1,3})(?!\d)")
_HDTF_BARE_ID = re.compile(r"([^\W\d_](?:[^\W\d_]|-)*\d*)_(\d{1,3})(?!\d)")
_MEAD_ID = re.compile(rf"(?:^|-)([MW]\d{{3}})_(?:[a-z0-9_]+_)?({'|'.join(EMOTIONS)})_level_([123])_(\d{{3}})(?!\d)")


def hdtf_person(video: str) -> str:
    """Speaker of an HDTF video: the name without the video's number, e.g. ``AmyKlobuchar1`` -> ``AmyKlobuchar``.

    Radio addresses keep their number: ``Radio11`` -> ``Radio11``.
    """
    if re.fullmatch(r"Radio\d+", video):
        return video
    name = video.rstrip("0123456789") or video
    return HDTF_ALIASES.get(name, name)


def hdtf_clip_id(key: str) -> tuple[str, int] | None:
    """(video name, clip number) of an HDTF sample key, or None. Video names are unique without the subset."""
    found = _HDTF_ID.search(key)
    if found:
        return found[2], int(found[3])
    bare = _HDTF_BARE_ID.match(key)
    return (bare[1], int(bare[2])) if bare else None


@dataclass(frozen=True)
class MeadSentence:
    """One sentence of a MEAD actor, filmed by all cameras at once.

    Attributes:
        actor: Name of the actor, e.g. ``M003``.
        emotion: One of ``EMOTIONS``.
        level: Level from 1 to 3; neutral has only level 1.
        number: Number of the sentence from 1, with gaps for some actors.
    """

    actor: str
    emotion: str
    level: int
    number: int


def mead_sentence(key: str) -> MeadSentence | None:
    """Sentence of a MEAD sample key, or None."""
    found = _MEAD_ID.search(key)
    return MeadSentence(found[1], found[2], int(found[3]), int(found[4])) if found else None
