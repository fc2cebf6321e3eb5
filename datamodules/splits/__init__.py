"""Train, validation and test splits: committed split files, and rules for clips that they do not list.

    scheme        dataset           definition
    emotivetalk   hdtf, mead        this project's split without shared speakers; val and test a tenth each (hdtf),
                                    test actors of EAT and EDTalk (mead: M003, M030, W009, W015)
    peer          hdtf, mead        EDTalk's published lists; in HDTF, train and test share 31 speakers
    official      mead              MEAD's rule: the last 10 neutral and the last 6 other sentences are test
    person        any               hash of the speaker's name: equal on every machine, without a file
    time          any               of each speaker's clips, in the order of their names, the last tenth is test and the
                                    tenth before it val, to train and test on one person; pieces of a long video count
                                    as clips
    train         any               all clips are training clips

``emotivetalk`` means ``person`` for synthetic speakers and ``train`` for a folder of videos. Speakers that a file does
not list are assigned by ``person``; under ``peer`` they are training speakers, which keeps the published test set
unchanged. The files are written by ``python -m tools.make_splits`` and contain the hash of their lists.
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
LEAST_TIMED = 3  # clips of a speaker; fewer cannot give one to each split of scheme time


class SplitError(ConfigError):
    """A split that does not exist, or a split file whose content was changed."""


@dataclass(frozen=True)
class SplitFile:
    """A committed split file.

    Attributes:
        name: File name without ``.json``.
        source: Origin of the lists, with commit and licence.
        rule: Description of how the lists were made, and of their limits.
        seed: Seed of the rule, or None.
        persons: split -> speakers, for a split by speaker.
        clips: split -> clip names, for a split by clip.
        last: emotion -> number of last sentences in the test split, for a split by sentence.
        warning: Warning for users of this split; may be empty.
        sha256: Hash of ``persons``, ``clips`` and ``last``, see ``content_hash``.
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
    """SHA-256 of a split file's ``persons``, ``clips`` and ``last`` as compact JSON with sorted keys."""
    lists = {field: content.get(field) or {} for field in ("persons", "clips", "last")}
    return hashlib.sha256(json.dumps(lists, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache
def read_split(name: str) -> SplitFile:
    """Reads a committed split file and checks its hash. Logs its warning on the first read.

    Raises:
        SplitError: If there is no such file, or its lists were changed.
    """
    path = resources.files(__name__) / f"{name}.json"
    if not path.is_file():
        raise SplitError(f"datamodules/splits/{name}.json: no such split file")
    split = parse_split(path.read_text(encoding="utf-8"))
    if split.warning:
        logger.warning("split %s: %s", name, split.warning)
    return split


def parse_split(text: str) -> SplitFile:
    """Parses the text of a split file and checks its hash.

    Raises:
        SplitError: If its lists do not match its hash.
    """
    raw = json.loads(text)
    split = SplitFile(**raw)
    if content_hash(raw) != split.sha256:
        raise SplitError(
            f"datamodules/splits/{split.name}.json: its lists do not match its sha256, so results would not be "
            "comparable. Restore the file from the repository"
        )
    return split


def person_hash_split(speaker: str, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> str:
    """Assigns a speaker to a split by a hash of the name, independent of machine and of other speakers.

    Args:
        speaker: Name of the speaker. It is normalised, since macOS decomposes umlauts into two characters.
        seed: Seed of the hash.
        fractions: Shares of train, val and test that sum to 1.
    """
    digest = hashlib.sha256(f"{seed}:{unicodedata.normalize('NFC', speaker)}".encode("utf-8", "surrogateescape"))
    place = int.from_bytes(digest.digest()[:8], "big") / 2**64
    train, val, _ = fractions
    return "train" if place < train else "val" if place < train + val else "test"


def named_splits(dataset: str) -> Mapping[str, str]:
    """Maps the schemes of a dataset to split files or rules; empty for an unregistered dataset."""
    splits: Mapping[str, str] = DATASETS.get(dataset).splits if dataset in DATASETS else {}
    return splits


def shares_speakers(dataset: str, scheme: str) -> bool:
    """Whether speakers are in several splits: for one person's videos, and in splits of published tables."""
    return scheme == "time" or (dataset in DATASETS and scheme in DATASETS.get(dataset).shared_speakers)


def schemes(dataset: str) -> tuple[str, ...]:
    """Split schemes of a dataset."""
    return tuple(dict.fromkeys((*named_splits(dataset), "person", "time", "train")))


def require_scheme(dataset: str, scheme: str) -> None:
    """Checks that ``scheme`` exists for ``dataset``.

    Raises:
        SplitError: If it does not; the message lists those that exist.
    """
    if scheme not in schemes(dataset):
        raise SplitError(
            f"dataset.split={scheme}: {dataset} has no such split; choose one of {', '.join(schemes(dataset))}"
        )


def split_of(dataset: str, scheme: str, speaker: str, key: str) -> str:
    """Split of one clip: ``train``, ``val`` or ``test``.

    Args:
        dataset: Name of the dataset.
        scheme: One of ``schemes(dataset)`` except ``official`` and ``time``, which need all clips of a speaker.
        speaker: Speaker, see ``ClipSource.speaker``.
        key: Key of the clip, see ``ClipSource.key``; ``peer`` reads HDTF's clip name from it.

    Raises:
        SplitError: If the scheme does not exist for the dataset, or requires ``assign_splits``.
    """
    require_scheme(dataset, scheme)
    rule = named_splits(dataset).get(scheme, scheme)
    if rule == "train":
        return "train"
    if rule == "time":
        raise SplitError(f"dataset.split={scheme}: needs all clips of a speaker; use assign_splits")
    if rule == "person":
        return person_hash_split(speaker)
    split = read_split(rule)
    if split.last:
        raise SplitError(f"dataset.split={scheme}: needs all sentences of an actor; use assign_splits")
    if split.clips:
        return _by_clip(rule).get(hdtf_clip_id(key) or ("", 0), "train")
    unlisted = "train" if scheme == "peer" else person_hash_split(speaker, split.seed or 0)
    return next((side for side in SPLITS if speaker in split.persons.get(side, ())), unlisted)


def assign_splits(dataset: str, scheme: str, speakers: Mapping[str, str]) -> dict[str, str]:
    """Assigns every clip of a dataset to a split.

    ``official`` and ``time`` count the clips of each speaker from the end, so they need all clips at once.

    Args:
        dataset: Name of the dataset.
        scheme: One of ``schemes(dataset)``.
        speakers: Clip key -> speaker.

    Returns:
        clip key -> train, val or test.

    Raises:
        SplitError: If the scheme does not exist for the dataset.
    """
    require_scheme(dataset, scheme)
    if named_splits(dataset).get(scheme) == "mead_official":
        return _by_sentence(speakers, read_split("mead_official").last)
    if scheme == "time":
        return _by_time(speakers)
    return {key: split_of(dataset, scheme, speaker, key) for key, speaker in speakers.items()}


@lru_cache
def _by_clip(name: str) -> dict[tuple[str, int], str]:
    listed = ((hdtf_clip_id(clip), side) for side, clips in read_split(name).clips.items() for clip in clips)
    return {clip: side for clip, side in listed if clip}


def _by_time(speakers: Mapping[str, str]) -> dict[str, str]:
    """Splits the clips of each speaker by order; speakers with too few clips are training speakers."""
    clips = defaultdict(list)
    for key in sorted(speakers):
        clips[speakers[key]].append(key)
    sides = dict.fromkeys(speakers, "train")
    for keys in clips.values():
        held = max(1, round(len(keys) * FRACTIONS[2])) if len(keys) >= LEAST_TIMED else 0
        sides.update(dict.fromkeys(keys[len(keys) - 2 * held :], "val"))
        sides.update(dict.fromkeys(keys[len(keys) - held :], "test"))
    return sides


def _by_sentence(keys: Iterable[str], last: Mapping[str, int]) -> dict[str, str]:
    sentences = {key: mead_sentence(key) for key in keys}
    numbers = defaultdict(set)
    for sentence in sentences.values():
        if sentence:
            numbers[sentence.actor, sentence.emotion, sentence.level].add(sentence.number)
    # By rank, not by number: many actors' sentence numbers have gaps and end at 58 or 77 instead of 30 or 40.
    test = {
        (actor, emotion, level, number)
        for (actor, emotion, level), present in numbers.items()
        for number in sorted(present)[-last.get(emotion, last["other"]) :]
    }
    return {
        key: "test" if found and (found.actor, found.emotion, found.level, found.number) in test else "train"
        for key, found in sentences.items()
    }
