"""What the names of HDTF and MEAD clips say about the person in them.

HDTF: ``WDA_AmyKlobuchar1_002`` is the third clip of the second video of Amy Klobuchar in the subset WDA. The weekly
radio addresses (``RD_Radio11_000``) do not name their speaker, so each of those videos counts as a person of its own.
MEAD: ``M003_front_angry_level_1_001`` is sentence 1 of actor M003.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
HDTF_SUBSETS = ("RD", "WDA", "WRA")

# One person under two names: WhipJimClyburn and JamesClyburn1 are even the same recording.
HDTF_ALIASES = {"WhipJimClyburn": "JamesClyburn", "AOC": "AlexandriaOcasioCortez"}

_HDTF_ID = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))(?:(RD|WDA|WRA)_)([^\W\d_](?:[^\W\d_]|-)*\d*)_(\d{1,3})(?!\d)")
_HDTF_BARE_ID = re.compile(r"([^\W\d_](?:[^\W\d_]|-)*\d*)_(\d{1,3})(?!\d)")
_MEAD_ID = re.compile(rf"(?:^|-)([MW]\d{{3}})_(?:[a-z0-9_]+_)?({'|'.join(EMOTIONS)})_level_([123])_(\d{{3}})(?!\d)")


def hdtf_person(video: str) -> str:
    """The person in an HDTF video: its name without the video's number, e.g. ``AmyKlobuchar1`` -> ``AmyKlobuchar``.

    A radio address keeps its number: ``Radio11`` -> ``Radio11``.
    """
    if re.fullmatch(r"Radio\d+", video):
        return video
    name = video.rstrip("0123456789") or video
    return HDTF_ALIASES.get(name, name)


def hdtf_clip_id(key: str) -> tuple[str, int] | None:
    """(video name, clip number) of an HDTF sample key, or None; the subset is left out, as video names are unique."""
    found = _HDTF_ID.search(key)
    if found:
        return found[2], int(found[3])
    bare = _HDTF_BARE_ID.match(key)
    return (bare[1], int(bare[2])) if bare else None


@dataclass(frozen=True)
class MeadSentence:
    """One sentence of one MEAD actor; every camera filmed it at once.

    Attributes:
        actor: e.g. ``M003``.
        emotion: one of ``EMOTIONS``.
        level: 1 to 3; neutral has level 1 only.
        number: of the sentence, from 1, with gaps for some actors.
    """

    actor: str
    emotion: str
    level: int
    number: int


def mead_sentence(key: str) -> MeadSentence | None:
    """The sentence a MEAD sample key names, or None."""
    found = _MEAD_ID.search(key)
    return MeadSentence(found[1], found[2], int(found[3]), int(found[4])) if found else None
