"""Fixed list of synthetic speakers: face, voice, clothes, background and split of each.

A name is the same speaker in every run. A speaker depends on neither the dataset's seed nor the number of speakers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Colour = tuple[int, int, int]

# MEAD's own ids are below 100, so that both datasets can be mixed.
FIRST_NUMBER = 100
TEST_INDICES, VAL_INDICES, SPLIT_PERIOD = (2, 9), (3,), 12

SKINS: tuple[Colour, ...] = (
    (250, 222, 200), (152, 102, 70), (236, 188, 150), (206, 150, 108), (120, 80, 58), (255, 212, 176), (172, 118, 80),
    (228, 176, 132),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (92, 58, 34), (28, 24, 26), (222, 178, 92), (44, 34, 52), (168, 74, 38), (186, 184, 190), (120, 84, 52),
)  # fmt: skip
EYES: tuple[Colour, ...] = ((62, 104, 168), (84, 54, 34), (66, 128, 84), (110, 116, 128), (134, 94, 44))
CLOTHES: tuple[Colour, ...] = (
    (52, 86, 140), (176, 52, 60), (60, 120, 92), (232, 190, 70), (92, 66, 128), (238, 238, 232), (48, 50, 58),
    (226, 128, 70), (88, 160, 178),
)  # fmt: skip
BACKGROUNDS: tuple[Colour, ...] = (
    (186, 206, 222), (224, 206, 178), (168, 192, 170), (206, 190, 214), (150, 160, 176), (236, 226, 206),
    (128, 168, 178), (214, 178, 172), (196, 200, 150), (110, 120, 140), (240, 214, 220),
)  # fmt: skip
MEN_HAIR = ("short", "side", "curly", "spiky", "bald")
WOMEN_HAIR = ("long", "bob", "bun", "curly", "fringe")
MEN_NAMES = ("Abel", "Cyrus", "Emil", "Gustav", "Ivan", "Kofi", "Milan", "Omar", "Quentin", "Said", "Ugo", "Wim")
WOMEN_NAMES = ("Bea", "Dora", "Femi", "Hana", "Jun", "Lena", "Nora", "Paula", "Rosa", "Tilda", "Vera", "Yuki")


@dataclass(frozen=True)
class Voice:
    """Voice of a speaker.

    Attributes:
        f0: Resting pitch, Hz.
        formant_scale: Formant frequencies relative to an average man; the inverse of the vocal tract's length.
        breath: Share of breath noise in the voice, 0 to 1.
    """

    f0: float
    formant_scale: float
    breath: float


@dataclass(frozen=True)
class SyntheticPerson:
    """One synthetic speaker. Sizes are relative to the average face, 1.0.

    Attributes:
        index: Index of the speaker, from 0.
        name: Id in MEAD's style: M or W and a number from 100 on.
        hdtf_name: Name in HDTF's style, e.g. ``WDA_SynthAbel``; without digits, since digits at the end would be read
            as the number of the video.
        jaw: Shape of the chin, 0 (pointed) to 1 (square).
        expressivity: Factor on the strength of emotions.
    """

    index: int
    name: str
    hdtf_name: str
    female: bool
    skin: Colour
    hair: Colour
    hair_style: str
    beard: float
    eye: Colour
    lip: Colour
    clothes: Colour
    background: Colour
    face_width: float
    face_length: float
    jaw: float
    eye_spacing: float
    eye_size: float
    brow_thickness: float
    brow_height: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_thickness: float
    expressivity: float
    voice: Voice


def identity(index: int) -> SyntheticPerson:
    """Returns the speaker with index ``index``; even ones are men, odd ones women.

    Each trait follows a Weyl sequence with its own irrational step. Consecutive speakers therefore spread evenly over
    the range of each trait and differ in most traits.

    Raises:
        ValueError: If ``index`` is negative.
    """
    if index < 0:
        raise ValueError(f"identity index {index}: expected 0 or more")
    female = bool(index % 2)
    place = index // 2
    strides = iter(
        (0.6180, 0.4142, 0.7321, 0.2361, 0.6458, 0.3166, 0.8730, 0.1231, 0.5826, 0.3589, 0.7958, 0.2915, 0.48)
    )

    def between(low: float, high: float) -> float:
        return low + (high - low) * ((0.5 + (index + 1) * next(strides)) % 1.0)

    styles = WOMEN_HAIR if female else MEN_HAIR
    names = WOMEN_NAMES if female else MEN_NAMES
    skin = SKINS[(index * 3 + index // 8) % len(SKINS)]
    dark_skin = sum(skin) < 370
    hairs = HAIRS[:2] + HAIRS[3:4] if dark_skin else HAIRS
    voice = Voice(
        f0=between(166, 212) if female else between(96, 142),
        formant_scale=between(1.08, 1.19) if female else between(0.93, 1.03),
        breath=between(0.02, 0.07),
    )
    rose = between(0.45, 0.75) if female else between(0.25, 0.45)
    lip_base = (150, 50, 62) if dark_skin else (196, 66, 84)
    # Lips are always redder and darker than the skin, so that the mouth is visible at 64 px.
    red, green, blue = (round(0.72 * s * (1 - rose) + b * rose) for s, b in zip(skin, lip_base, strict=True))
    return SyntheticPerson(
        index=index,
        name=f"{'W' if female else 'M'}{FIRST_NUMBER + index}",
        hdtf_name=f"WDA_Synth{names[place % len(names)]}{_letters(place // len(names))}",
        female=female,
        skin=skin,
        hair=hairs[(index * 2 + index // 5) % len(hairs)],
        hair_style=styles[(place + place // len(styles)) % len(styles)],
        beard=0.0 if female or place % 3 != 1 else 1.0,
        eye=EYES[1] if dark_skin else EYES[(index * 2) % len(EYES)],
        lip=(min(255, red + 12), green, blue),
        clothes=CLOTHES[(index * 4) % len(CLOTHES)],
        background=BACKGROUNDS[(index * 3) % len(BACKGROUNDS)],
        face_width=between(0.92, 1.08) * (0.97 if female else 1.02),
        face_length=between(0.96, 1.04),
        jaw=between(0.0, 0.55) if female else between(0.4, 1.0),
        eye_spacing=between(0.97, 1.03),
        eye_size=between(0.92, 1.08) * (1.05 if female else 0.98),
        brow_thickness=between(0.75, 1.0) if female else between(1.0, 1.4),
        brow_height=between(-0.02, 0.02),
        nose_width=between(0.85, 1.2),
        nose_length=between(0.92, 1.08),
        mouth_width=0.97 + 0.06 * ((0.5 + (index + 1) * 0.3819) % 1.0),
        lip_thickness=(1.1 if female else 0.9) + 0.25 * ((0.25 + (index + 1) * 0.5549) % 1.0),
        expressivity=0.92 + 0.16 * ((0.5 + (index + 1) * 0.1716) % 1.0),
        voice=voice,
    )


def split_of(person: SyntheticPerson | str) -> str:
    """Returns the split of a speaker: of every twelve, two are ``test``, one is ``val`` and nine are ``train``.

    Args:
        person: Speaker, or the speaker's name in MEAD's or HDTF's style.

    Raises:
        ValueError: If the name is not that of a synthetic speaker.
    """
    index = person.index if isinstance(person, SyntheticPerson) else _index_of(person)
    place = index % SPLIT_PERIOD
    return "test" if place in TEST_INDICES else "val" if place in VAL_INDICES else "train"


def held_out_people() -> list[SyntheticPerson]:
    """Returns the speakers of the test split among the first 24."""
    return [person for person in map(identity, range(24)) if split_of(person) == "test"]


def _letters(number: int) -> str:
    """Writes a number in letters: 0 -> '', 1 -> 'a', ..., 26 -> 'z', 27 -> 'aa'."""
    text = ""
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _index_of(name: str) -> int:
    if match := re.fullmatch(r"[MW](\d+)", name):
        index = int(match[1]) - FIRST_NUMBER
        if index >= 0 and identity(index).name == name:
            return index
    if match := re.fullmatch(r"(?:WDA_)?Synth([A-Z][a-z]+)", name):
        for names, female in ((MEN_NAMES, 0), (WOMEN_NAMES, 1)):
            for place, first in enumerate(names):
                suffix = match[1].removeprefix(first)
                if len(suffix) < len(match[1]):
                    number = 0
                    for letter in suffix:
                        number = number * 26 + ord(letter) - ord("a") + 1
                    return 2 * (place + number * len(names)) + female
    raise ValueError(f"{name!r} is not a synthetic speaker: expected a name like M100, W101 or WDA_SynthAbel")
