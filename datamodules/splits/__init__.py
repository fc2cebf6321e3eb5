"""Which clips train, validate and test: committed split files, and the rules for clips they do not list.

    scheme        dataset           what it is
    emotivetalk   hdtf, mead        this project's: no person on two sides; val and test about a tenth each (hdtf),
                                    MEAD's test actors are those of EAT and EDTalk (M003, M030, W009, W015)
    peer          hdtf, mead        EDTalk's published lists. Its HDTF lists share 31 people between train and test
    official      mead              MEAD's own rule: the last 10 neutral and last 6 other sentences are test
    person        any               by a hash of the speaker: the same on every machine, nothing to commit
    train         any               everything trains

``emotivetalk`` means ``person`` for synthetic speakers and ``train`` for a folder of videos. People a file does not
list go where ``person`` puts them; under ``peer`` they train, so that the peers' test set stays as it was published.
The files are made by ``python -m tools.make_splits`` and carry the hash of their lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from configs.errors import ConfigError
from configs.registries import DATASETS
from datamodules.schema import SPLITS
from datamodules.splits.clip_names import hdtf_clip_id, mead_sentence

logger = logging.getLogger(__name__)

FRACTIONS = (0.8, 0.1, 0.1)


class SplitError(ConfigError):
    """A split that does not exist or a split file that cannot be trusted; the message says what to choose instead."""


@dataclass(frozen=True)
class SplitFile:
    """One committed split.

    Attributes:
        name: of the file, without ``.json``.
        source: where its lists come from, with commit and licence.
        rule: how the lists were made, and what they do not promise.
        seed: of the rule, None where it has none.
        persons: split -> speakers.
        clips: split -> clip names, where the split is by clip.
        last: emotion -> how many of the last sentences are test, where the split is a rule about sentences.
        warning: what a user of this split should know, empty for nothing.
        sha256: of ``persons``, ``clips`` and ``last``, see ``content_hash``.
    """

    name: str
    source: str
    rule: str
    seed: int | None
    persons: dict[str, list[str]]
    clips: dict[str, list[str]]
    last: dict[str, int]
    warning: str
    sha256: str


def content_hash(content: Mapping[str, Any]) -> str:
    """sha256 of what a split file decides: its ``persons``, ``clips`` and ``last`` as compact JSON with sorted keys."""
    decides = {field: content.get(field) or {} for field in ("persons", "clips", "last")}
    return hashlib.sha256(json.dumps(decides, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache
def read_split(name: str) -> SplitFile:
    """Reads a committed split by file name and checks its hash; logs its warning the first time.

    Raises:
        SplitError: when there is no such file or its lists were changed.
    """
    path = resources.files(__name__) / f"{name}.json"
    if not path.is_file():
        raise SplitError(f"no split file {name}.json in datamodules/splits")
    split = parse_split(path.read_text(encoding="utf-8"))
    if split.warning:
        logger.warning("split %s: %s", name, split.warning)
    return split


def parse_split(text: str) -> SplitFile:
    """Reads the text of a split file.

    Raises:
        SplitError: when its lists were changed after its hash was written.
    """
    raw = json.loads(text)
    split = SplitFile(**raw)
    if content_hash(raw) != split.sha256:
        raise SplitError(
            f"datamodules/splits/{split.name}.json: its lists do not match its sha256, so results would not be "
            "comparable with others'. Restore the file from the repository"
        )
    return split


def person_hash_split(speaker: str, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> str:
    """The split of a speaker from a hash of the name: the same on every machine, and when others come or go.

    Args:
        speaker: any text; Unicode-equal names (macOS writes umlauts in two characters) give the same split.
        seed: another seed, another split.
        fractions: shares of train, val and test; they sum to 1.
    """
    digest = hashlib.sha256(f"{seed}:{unicodedata.normalize('NFC', speaker)}".encode("utf-8", "surrogateescape"))
    place = int.from_bytes(digest.digest()[:8], "big") / 2**64
    train, val, _ = fractions
    return "train" if place < train else "val" if place < train + val else "test"


def named_splits(dataset: str) -> Mapping[str, str]:
    """Scheme -> split file or rule of a dataset; empty for one that is not registered here."""
    splits: Mapping[str, str] = DATASETS.get(dataset).splits if dataset in DATASETS else {}
    return splits


def shares_speakers(dataset: str, scheme: str) -> bool:
    """Whether a split was published with the same people on two sides; such are offered to compare with tables."""
    return dataset in DATASETS and scheme in DATASETS.get(dataset).shared_speakers


def schemes(dataset: str) -> tuple[str, ...]:
    """The schemes a dataset can be split by."""
    return tuple(dict.fromkeys((*named_splits(dataset), "person", "train")))


def require_scheme(dataset: str, scheme: str) -> None:
    """Checks that ``scheme`` exists for ``dataset``.

    Raises:
        SplitError: naming the schemes that do.
    """
    if scheme not in schemes(dataset):
        raise SplitError(
            f"dataset.split={scheme}: {dataset} has no such split; choose one of {', '.join(schemes(dataset))}"
        )


def split_of(dataset: str, scheme: str, speaker: str, key: str) -> str:
    """The split of one clip: ``train``, ``val`` or ``test``.

    Args:
        dataset: its name.
        scheme: one of ``schemes(dataset)`` but ``official``, which is a rule about all sentences of an actor.
        speaker: as ``ClipSource.speaker``.
        key: as ``ClipSource.key``; ``peer`` reads HDTF's clip name from it.

    Raises:
        SplitError: when the scheme does not exist for the dataset or needs ``assign_splits``.
    """
    require_scheme(dataset, scheme)
    rule = named_splits(dataset).get(scheme, scheme)
    if rule == "train":
        return "train"
    if rule == "person":
        return person_hash_split(speaker)
    split = read_split(rule)
    if split.last:
        raise SplitError(f"dataset.split={scheme} looks at all sentences of an actor; use assign_splits")
    if split.clips:
        return _by_clip(rule).get(hdtf_clip_id(key) or ("", 0), "train")
    unlisted = "train" if scheme == "peer" else person_hash_split(speaker, split.seed or 0)
    return next((side for side in SPLITS if speaker in split.persons.get(side, ())), unlisted)


def assign_splits(dataset: str, scheme: str, speakers: Mapping[str, str]) -> dict[str, str]:
    """The split of every clip of a dataset.

    ``official`` counts MEAD's sentences from the end, so it needs all clips at once: the last of those that are given.

    Args:
        dataset: its name.
        scheme: one of ``schemes(dataset)``.
        speakers: clip key -> speaker.

    Returns:
        Clip key -> train, val or test.

    Raises:
        SplitError: when the scheme does not exist for the dataset.
    """
    require_scheme(dataset, scheme)
    if named_splits(dataset).get(scheme) == "mead_official":
        return _by_sentence(speakers, read_split("mead_official").last)
    return {key: split_of(dataset, scheme, speaker, key) for key, speaker in speakers.items()}


@lru_cache
def _by_clip(name: str) -> dict[tuple[str, int], str]:
    listed = ((hdtf_clip_id(clip), side) for side, clips in read_split(name).clips.items() for clip in clips)
    return {clip: side for clip, side in listed if clip}


def _by_sentence(keys: Iterable[str], last: Mapping[str, int]) -> dict[str, str]:
    sentences = {key: mead_sentence(key) for key in keys}
    numbers = defaultdict(set)
    for sentence in sentences.values():
        if sentence:
            numbers[sentence.actor, sentence.emotion, sentence.level].add(sentence.number)
    # Ranks, not numbers: for many actors the numbers have gaps and end at 58 or 77 instead of 30 or 40.
    test = {
        (actor, emotion, level, number)
        for (actor, emotion, level), present in numbers.items()
        for number in sorted(present)[-last.get(emotion, last["other"]) :]
    }
    return {
        key: "test" if found and (found.actor, found.emotion, found.level, found.number) in test else "train"
        for key, found in sentences.items()
    }
