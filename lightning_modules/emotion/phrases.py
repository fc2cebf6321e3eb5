"""English ways of asking for an emotion at a level: what the text mapping learns from, and what it is held against.

Every word has a level of its own (annoyed 1, angry 2, furious 3) that a modifier lowers or raises by one ("slightly
furious" is 2). What is negated ("not sad") counts as neutral. Frames and paraphrases marked held out never occur in
training.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from functools import cache
from typing import NamedTuple

from encoders.text.ngram import words_of
from lightning_modules.emotion.lexicon import LEXICON, Words, all_words

Cell = tuple[str, int]


class Phrase(NamedTuple):
    """A text and the emotion and level it asks for."""

    text: str
    emotion: str
    level: int


MODIFIERS: dict[int, tuple[str, ...]] = {
    -1: ("slightly", "a little", "a bit", "mildly", "somewhat", "faintly", "gently", "subtly", "kind of", "barely"),
    0: ("", "", "", "quite", "rather", "fairly", "clearly", "moderately"),
    1: ("very", "extremely", "really", "so", "intensely", "absolutely", "totally", "deeply", "incredibly", "utterly"),
}  # fmt: skip
AMOUNTS: dict[int, tuple[str, ...]] = {
    -1: ("a hint of", "a touch of", "a trace of", "a little", "some slight", "mild", "faint"),
    0: ("", "", "clear", "real", "moderate"),
    1: ("intense", "great", "extreme", "overwhelming", "strong", "pure", "a lot of", "deep"),
}
FRAMES: dict[str, tuple[str, ...]] = {
    "adjectives": (
        "{}", "be {}", "look {}", "sound {}", "feeling {}", "she is {}", "he looks {}", "they seem {}",
        "you are {} about it", "in a {} voice", "a {} face", "with a {} expression", "say it as if you were {}",
        "make him look {}", "speak in a {} way", "a {} person", "she feels {}", "the speaker is {}", "get {}",
        "i want you to be {}", "talk like a {} man", "use a {} tone",
    ),
    "adverbs": (
        "{}", "speak {}", "talk {}", "say this {}", "say it {}", "answer {}", "respond {} to the question",
        "tell the story {}", "she spoke {}", "read the line {}", "talking {}",
    ),
    "nouns": (
        "{}", "with {}", "full of {}", "show {}", "a voice filled with {}", "express {}", "speak with {}",
        "a face of {}", "feel {}", "in {}", "her eyes show {}", "an expression of {}", "out of {}",
    ),
    "actions": (
        "{}", "please {}", "{} while talking", "{} as you speak", "i want you to {}", "you should {}",
        "{} at the camera", "let her {}", "make the person {}",
    ),
}  # fmt: skip
HELD_OUT_FRAMES: dict[str, tuple[str, ...]] = {
    "adjectives": (
        "the woman in the clip appears {}",
        "deliver the line sounding {}",
        "my friend was {} when she heard it",
        "pretend that you are {}",
    ),
    "adverbs": ("she told them everything {}", "pronounce every word {}", "recite the poem {}"),
    "nouns": ("let us hear {} in your words", "he could not hide his {}", "there is {} on that face"),
    "actions": ("could you {} during the speech", "the actor has to {} here"),
}
LEVEL_FRAMES = (
    "{emotion}, level {level}", "{emotion} level {level}", "{emotion} {level}", "level {level} {emotion}",
    "{emotion} at level {level}", "{emotion} with intensity {level}", "{emotion}, intensity {level} of 3",
)  # fmt: skip
NEGATIONS = {
    "adjectives": (
        "not {}",
        "don't be {}",
        "never {}",
        "do not look {}",
        "not {} at all",
        "she is not {}",
        "stop being {}",
    ),
    "nouns": ("no {}", "without {}", "without any {}", "show no {}", "not a trace of {}"),
}
BEFORE = (
    "please", "now", "in this video", "for the whole clip", "hey", "when you talk", "the portrait should",
    "the person should", "generate a video",
)  # fmt: skip
AFTER = (
    "and say that sentence", "when you talk", "to the camera", "in the video", "please", "for me", "today",
    "while speaking", "and read the text", "during the whole clip", "about what happened", "to your friend",
    "and keep talking", "and say the line", "in this scene", "while you tell the story",
)  # fmt: skip

# Ordinary words that say nothing of a feeling, scattered around phrases so that the mapping learns to pass over them.
COMMON = tuple(
    words_of(
        """the and of to a in that it is was i for on you he with as by at have are this but had his they her she or an
        were been one all we has would there their what so up if about who which them when can more out said do into
        could time then some only its like over our even most me after also many must before through where much your
        way well down should because each those people how too state old very still own see men work here between both
        life being under year while last day since make use man woman child mother father friend boss teacher car
        house room door table morning night school office exam dinner food dog phone letter game film video face mouth
        eyes voice words line sentence speech story question tone way person actor customer guest party kids news gift
        weather city street money look looks looking sound sounds speak speaks speaking talk say says saying tell told
        feel feels feeling seem seems just really always again today because every thing things something someone
        everyone"""
    )
)

# Words of the lexicon's longer entries that say nothing by themselves.
PLAIN = """a about act all an any are as at attend back be behind been bit by cold could do dog down each
eyed eyes feel find for from get give good great had hang have head hear him hold if in into is it just keep know level
life like lips little long lose make mother nails no not of off on one open or out over own put raise red run say see
she show so someone something speak state stay such talk taken that the their them then there they this throw time to
too top treat turn turned unable up use utter very voice want was way were what who wide will with without word
words your"""

# Whole texts in nobody's frames, as a person might type them.
PARAPHRASES: dict[str, tuple[str, ...]] = {
    "angry": (
        "She is boiling with rage at her boss", "You have had enough, let your fury out", "An Angry Image",
        "Shout as though somebody stole your car", "Make him mad as hell", "He speaks through clenched teeth",
        "sound irritated by the noise", "a man who lost his temper",
    ),
    "contempt": (
        "Talk down to them with a smug smirk", "You think they are all beneath you", "a sneer of disdain",
        "Be arrogant and scornful toward the audience", "mock everything they stand for",
        "She answers with cold contempt", "roll your eyes at this nonsense", "sound condescending",
    ),
    "disgusted": (
        "You just smelled rotten eggs", "Look grossed out by the food", "yuck, that is revolting",
        "Her face shows utter revulsion", "speak as if you were about to vomit", "that makes me nauseous",
        "wrinkle your nose in disgust", "a repulsed reaction to the smell",
    ),
    "fear": (
        "You are scared of the dark", "Tremble like there is a ghost behind you", "His voice shakes with terror",
        "a frightened little voice", "panic because the house is on fire", "sound anxious about the exam",
        "She was horrified and afraid for her life", "be nervous on stage",
    ),
    "happy": (
        "Be cheerful and say that sentence", "You have just won the lottery", "Give us a big bright smile",
        "He laughs with joy", "sound excited for your birthday party", "a delighted grin",
        "she is overjoyed to see her family", "be upbeat and friendly",
    ),
    "neutral": (
        "Speak like a newsreader", "keep a straight face", "no emotion at all", "just talk in your normal voice",
        "stay calm and composed", "an expressionless face", "a plain matter-of-fact statement", "don't be sad!",
    ),
    "sad": (
        "Your dog died this morning", "Speak with tears in your eyes", "She is heartbroken after the breakup",
        "a gloomy and lonely voice", "he sobs over the loss of his mother", "Look down and sound miserable",
        "full of grief and sorrow", "be disappointed with the result",
    ),
    "surprised": (
        "You did not expect that at all", "Wow, what a shock", "Open your eyes wide in amazement",
        "She cannot believe what she sees", "an astonished look", "be stunned by the news",
        "gasp, completely taken by surprise", "sound amazed and startled",
    ),
}  # fmt: skip


def training_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in every training frame, with modifiers drawn at random, and labels with levels.

    Args:
        cells: the emotions and levels to ask for; a phrase of another one is left out.
        seed: of the modifiers and surroundings.
    """
    rng = random.Random(seed)
    made = [phrase for emotion in LEXICON for phrase in _of_words(emotion, FRAMES, rng)]
    made += [_surrounded(phrase, rng) for phrase in made]
    for emotion, words in LEXICON.items():
        for kind, frames in NEGATIONS.items():
            negated = [word for level in (1, 2, 3) for word in _kind(words, level, kind)]
            made += [
                Phrase(frame.format(word), "neutral", 1)
                for word in negated
                for frame in rng.sample(frames, 2)
                if emotion != "neutral"
            ]
        names = (emotion, *words.names)
        made += [
            Phrase(frame.format(emotion=name, level=level), emotion, level)
            for name in names
            for level in ((1,) if emotion == "neutral" else (1, 2, 3))
            for frame in LEVEL_FRAMES
        ]
    held_out = {_plainly(text) for texts in PARAPHRASES.values() for text in texts}
    return [phrase for phrase in _wanted(made, cells) if _plainly(phrase.text) not in held_out]


def held_out_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in frames that training never shows."""
    rng = random.Random(seed)
    return _wanted([phrase for emotion in LEXICON for phrase in _of_words(emotion, HELD_OUT_FRAMES, rng)], cells)


def paraphrases(cells: Collection[Cell]) -> list[Phrase]:
    """The hand-written texts; their level is open, so they carry the middle one, or the only one there is."""
    emotions = {emotion for emotion, _ in cells}
    return [
        Phrase(text, emotion, 1 if emotion == "neutral" else 2)
        for emotion, texts in PARAPHRASES.items()
        if emotion in emotions
        for text in texts
    ]


def _of_words(emotion: str, all_frames: dict[str, tuple[str, ...]], rng: random.Random) -> list[Phrase]:
    made = []
    for kind, frames in all_frames.items():
        for own in (1, 2, 3):
            for word in _kind(LEXICON[emotion], own, kind):
                for frame in frames:
                    shift = rng.choice((-1, 0, 0, 1))
                    said = word if kind == "actions" else _modified(word, kind, shift, rng)
                    level = own if kind == "actions" else min(max(own + shift, 1), 3)
                    made.append(Phrase(frame.format(said), emotion, 1 if emotion == "neutral" else level))
    return made


def _kind(words: Words, level: int, kind: str) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(words, kind)[level - 1]
    return found


def _modified(word: str, kind: str, shift: int, rng: random.Random) -> str:
    return f"{rng.choice((AMOUNTS if kind == 'nouns' else MODIFIERS)[shift])} {word}".strip()


def _surrounded(phrase: Phrase, rng: random.Random) -> Phrase:
    before = f"{rng.choice(BEFORE)} " if rng.random() < 0.4 else ""
    after = f" {rng.choice(AFTER)}" if rng.random() < 0.5 else ""
    around = [rng.choice(COMMON) for _ in range(rng.randint(0, 6))]
    split = rng.randint(0, len(around))
    first, last = " ".join(around[:split]), " ".join(around[split:])
    return phrase._replace(text=f"{before}{first} {phrase.text} {last}{after}".strip().replace("  ", " "))


def _wanted(phrases: list[Phrase], cells: Collection[Cell]) -> list[Phrase]:
    """The phrases of the given cells, each text once, with their articles put right."""
    seen: dict[str, Phrase] = {}
    for phrase in phrases:
        if (phrase.emotion, phrase.level) in cells:
            text = re.sub(r"\ba (?=[aeiou])", "an ", re.sub(r"\b(a|an) (?=(a|some) )", "", phrase.text))
            seen.setdefault(text, phrase._replace(text=text))
    return list(seen.values())


def _plainly(text: str) -> str:
    return " ".join(words_of(text))


@cache
def telling_words() -> frozenset[str]:
    """The single words of the lexicon that say something about an emotion by themselves."""
    around = [*BEFORE, *AFTER, *LEVEL_FRAMES, PLAIN]
    around += [text for table in (MODIFIERS, AMOUNTS) for texts in table.values() for text in texts]
    around += [frame for table in (FRAMES, HELD_OUT_FRAMES) for frames in table.values() for frame in frames]
    entries = [entry for emotion, words in LEXICON.items() for entry in (emotion, *all_words(words))]
    return frozenset(words_of(" ".join(entries))) - frozenset(words_of(" ".join(around)))


@cache
def known_entries() -> tuple[str, ...]:
    """The lexicon's entries of several words, each between spaces: some tell an emotion only as a whole."""
    entries = {" ".join(words_of(entry)) for words in LEXICON.values() for entry in all_words(words)}
    return tuple(sorted(f" {entry} " for entry in entries if " " in entry))


def is_form_of(word: str, known: Collection[str]) -> bool:
    """Whether a word is one of the known, or begins like one, as ``terrifying`` does like ``terrified``."""
    if word in known or word.removesuffix("s") in known:
        return True
    return any(len(other) > 3 and word.startswith(other[:6]) for other in known)
