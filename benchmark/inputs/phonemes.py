"""Phonemes in StyleTalk's format: a JSON list with one of 41 indices per 1/30 s of speech.

StyleTalk's repository has no recogniser. Such a list is accepted, and so are intervals of a forced aligner: Praat's
TextGrid (Montreal Forced Aligner) or lines of ``start end phone`` in seconds. If there is no transcript to align,
pocketsphinx recognises the phones less exactly: on StyleTalk's own sample almost half of the list is as published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from runtime.json_text import parse_json

RATE = 30
SILENCE = "SIL"
# The 39 phones of the CMU dictionary with noise and silence, in alphabetical order: the order of phindex.json.
PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "NSN", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
INDEX = {phone: index for index, phone in enumerate(PHONES)}
SILENT = ("", "sil", "sp", "spn", "<eps>", "pau", "h#", "+spn+")
NOISE = ("+noise+", "nsn", "+nsn+", "+breath+", "+cough+", "+smack+", "+uh+", "+um+")
LAG = 0.04  # seconds by which StyleTalk's published phonemes lag behind pocketsphinx 5 on its sample
SLACK = 0.5  # seconds by which the end of the phonemes may differ from the end of the sound
TIERS = ("phones", "phone", "phonemes", "mau")


@dataclass(frozen=True)
class PhonemeInterval:
    """A phone and its start and end in seconds."""

    start: float
    end: float
    phone: str


def phonemes_of(path: Path, seconds: float) -> list[int]:
    """Reads the phonemes of a sound from any accepted file.

    Args:
        path: JSON, TextGrid, or lab file.
        seconds: Duration of the sound.

    Returns:
        floor(30 * seconds) indices.

    Raises:
        UserError: If the file has another format or rate, or does not fit the sound.
    """
    try:
        text = path.read_text(encoding="utf-16" if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if path.suffix.lower() == ".json":
        return _fitted(_indices(text, path), seconds, path)
    intervals = _textgrid(text, path) if path.suffix.lower() == ".textgrid" else _lab(text, path)
    end = max((interval.end for interval in intervals), default=0.0)
    if abs(end - seconds) > SLACK and not (intervals and end < seconds):
        raise UserError(f"{path}: ends at {end:.2f} s, the sound lasts {seconds:.2f} s: use the file of this sound")
    return from_intervals(intervals, seconds)


def recognise(sound: np.ndarray, rate: int) -> list[PhonemeInterval]:
    """Recognises phones with pocketsphinx and its English models, without a transcript.

    Args:
        sound: (S,) float32 in [-1, 1].
        rate: Samples per second: 16000.

    Raises:
        UserError: If pocketsphinx is not installed.
    """
    try:
        from pocketsphinx import Decoder, get_model_path
    except ImportError as error:
        raise UserError(
            "StyleTalk needs phonemes. Add a column phonemes with a TextGrid (Montreal Forced Aligner), a "
            "'start end phone' file or StyleTalk's own JSON; or pip install pocketsphinx, which is less exact"
        ) from error
    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        allphone=get_model_path("en-us/en-us-phone.lm.bin"),
        lm=None,
        dict=None,
        samprate=rate,
        lw=2.0,  # as CMUSphinx's page on phoneme recognition recommends, like the beams
        beam=1e-20,
        pbeam=1e-20,
        loglevel="FATAL",
    )
    decoder.start_utt()
    decoder.process_raw(np.round(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    return [  # pocketsphinx's frames are 10 ms long
        PhonemeInterval(
            found.start_frame / 100 + LAG, (found.end_frame + 1) / 100 + LAG, phone_of(found.word, "pocketsphinx")
        )
        for found in decoder.seg() or ()
    ]


def from_intervals(intervals: Sequence[PhonemeInterval], seconds: float) -> list[int]:
    """Returns one index per 1/30 s: the phone at its centre, or silence."""
    found = [INDEX[SILENCE]] * max(1, math.floor(RATE * seconds))
    for interval in intervals:
        index = INDEX[interval.phone]
        first = math.ceil(interval.start * RATE - 0.5)
        for place in range(max(0, first), min(len(found), math.ceil(interval.end * RATE - 0.5))):
            found[place] = index
    return found


def phone_of(label: str, where: str) -> str:
    """Maps an aligner's label to one of the 41 phones: without stress, silence and noise by their usual names.

    Raises:
        UserError: If it is not a phone of the CMU dictionary.
    """
    plain = label.strip()
    if plain.lower() in SILENT:
        return SILENCE
    if plain.lower() in NOISE:
        return "NSN"
    phone = re.sub(r"_[BIES]$", "", plain).rstrip("012").upper()
    if phone not in INDEX:
        raise UserError(
            f"{where}: {label!r} is not a phone of the CMU dictionary (ARPAbet); align with an English ARPAbet model"
        )
    return phone


def _indices(text: str, path: Path) -> list[int]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(found, list) or not all(type(item) is int and 0 <= item < len(PHONES) for item in found):
        raise UserError(f"{path}: expected a list of whole numbers from 0 to {len(PHONES) - 1}, one per 1/30 s")
    return found


def _fitted(found: list[int], seconds: float, path: Path) -> list[int]:
    wanted = max(1, math.floor(RATE * seconds))
    if abs(len(found) - wanted) > SLACK * RATE or abs(len(found) / wanted - 1) > 0.1:
        raise UserError(
            f"{path}: {len(found)} phonemes for {seconds:.2f} s are {len(found) / seconds:.1f} per second, expected "
            f"{RATE}; other programs write 25 per second"
        )
    return (found + [INDEX[SILENCE]] * wanted)[:wanted]


def _lab(text: str, path: Path) -> list[PhonemeInterval]:
    intervals = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        parts = line.split()
        try:
            start, end = float(parts[0]), float(parts[1])
        except (ValueError, IndexError):
            raise UserError(f"{where}: expected 'start end phone' in seconds, found {line!r}") from None
        intervals.append(PhonemeInterval(start, end, phone_of(parts[2] if len(parts) > 2 else "", where)))
    return _ordered(intervals, path)


def _textgrid(text: str, path: Path) -> list[PhonemeInterval]:
    """Reads the phone tier of a TextGrid, long or short. Only the order of values counts, not the words around them."""
    values = re.findall(r'"(?:[^"]|"")*"|(?<![\w.\[])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w\]])', text)
    tiers: dict[str, list[PhonemeInterval]] = {}
    place = 0
    while place < len(values):
        if values[place] != '"IntervalTier"':
            place += 1
            continue
        try:
            name, count = values[place + 1].strip('"'), int(values[place + 4])
            rows = values[place + 5 : place + 5 + 3 * count]
            tiers[name.lower()] = [
                PhonemeInterval(float(rows[3 * i]), float(rows[3 * i + 1]), rows[3 * i + 2].strip('"'))
                for i in range(count)
            ]
        except (IndexError, ValueError):
            raise UserError(f"{path}: cannot be read as a TextGrid; expected tiers as Praat writes them") from None
        place += 5 + 3 * count
    chosen = next((name for name in tiers if name.split(" - ")[-1] in TIERS), None)
    if chosen is None:
        raise UserError(f"{path}: has no phone tier (found {', '.join(tiers) or 'none'}); expected 'phones'")
    rows_of = [PhonemeInterval(row.start, row.end, phone_of(row.phone, str(path))) for row in tiers[chosen]]
    return _ordered(rows_of, path)


def _ordered(intervals: list[PhonemeInterval], path: Path) -> list[PhonemeInterval]:
    for before, after in zip(intervals, intervals[1:], strict=False):
        if after.start < before.end - 1e-3:
            raise UserError(f"{path}: phones overlap at {after.start:.3f} s")
    if any(one.end < one.start or one.start < 0 for one in intervals):
        raise UserError(f"{path}: a phone ends before it starts")
    return intervals
