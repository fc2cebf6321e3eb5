"""Who lives in the synthetic world: persons with a face, a voice, clothes and a place, and the split they belong to.

The cast is fixed: a name is the same person in every run, whatever the dataset's seed, and nobody depends on how many
others there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Colour = tuple[int, int, int]

# MEAD's own ids stay below 100, so both may be mixed.
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
    """How a person sounds.

    Attributes:
        f0: resting pitch in Hz.
        formant_scale: formant frequencies relative to an average man; the inverse of the vocal tract's length.
        breath: share of breath noise in the voice, 0 to 1.
    """

    f0: float
    formant_scale: float
    breath: float


@dataclass(frozen=True)
class SyntheticPerson:
    """One person. Sizes are relative to the average face, so 1.0 is ordinary.

    Attributes:
        index: place in the cast, from 0.
        name: id in the manner of MEAD: M or W and a number from 100 on.
        hdtf_name: name in the manner of HDTF, e.g. ``WDA_SynthAbel``; letters only, as digits at its end would be
            taken for a video's number.
        jaw: 0 for a pointed, 1 for a square chin.
        expressivity: how strongly emotions show.
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
    """The cast's member ``index``; even ones are men, odd ones women.

    Every trait walks its range by its own irrational stride (a Weyl sequence), so any number of neighbours in the cast
    spread evenly over it and differ in most traits at once.

    Raises:
        ValueError: if ``index`` is negative.
    """
    if index < 0:
        raise ValueError(f"identity index {index}: the cast is numbered from 0")
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
    # Lips always stay clearly redder and darker than the skin: the mouth must read at 64 px.
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
    """``train``, ``val`` or ``test``: of every twelve members of the cast two are test and one is validation.

    Args:
        person: an identity, or its name in either layout's manner.

    Raises:
        ValueError: if the name is nobody's in this world.
    """
    index = person.index if isinstance(person, SyntheticPerson) else _index_of(person)
    place = index % SPLIT_PERIOD
    return "test" if place in TEST_INDICES else "val" if place in VAL_INDICES else "train"


def held_out_people() -> list[SyntheticPerson]:
    """The people of the test split among the first 24 of the cast."""
    return [person for person in map(identity, range(24)) if split_of(person) == "test"]


def _letters(number: int) -> str:
    """0 -> '', 1 -> 'a', ... 26 -> 'z', 27 -> 'aa': a number without digits."""
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
