"""Reads the answer files of a study, excludes invalid ones, and computes Table 4's means with intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.tables.reading import USER_STUDY
from benchmark.user_study.agreement import alpha_interval, krippendorff_alpha, two_way_interval, within_systems
from benchmark.user_study.build import ANSWERS_SCHEMA, KEY_SCHEMA
from benchmark.user_study.design import LEVELS, QUESTIONS, Trial
from runtime.errors import UserError
from runtime.files import write_whole
from runtime.json_text import read_json
from runtime.ownership import require_own_json

RESAMPLES = 200  # of the interval of alpha
SEED = 0
OVER = "raters and clips"  # of the intervals: both are samples


@dataclass(frozen=True)
class Key:
    """Content of ``key.json``.

    Attributes:
        study: Hash of the study.
        trials: Trials by name.
        orders: Order of trials of each rater.
        allowed_failures: Number of failed attention checks above which a rater is excluded.
    """

    study: str
    trials: Mapping[str, Trial]
    orders: tuple[tuple[str, ...], ...]
    allowed_failures: int


class Excluded(Exception):
    """Raised for an answer file that is excluded, with the reason."""


def read_key(path: Path) -> Key:
    """Reads the key of a study.

    Raises:
        UserError: If the file is not a key.
    """
    try:
        raw = read_json(path)
        if raw["schema"] != KEY_SCHEMA:
            raise UserError(f"key={path}: has the schema {raw['schema']!r}, expected {KEY_SCHEMA}")
        trials = {row["name"]: Trial(**row) for row in raw["trials"]}
        return Key(raw["study"], trials, tuple(map(tuple, raw["orders"])), int(raw["allowed_failures"]))
    except OSError as error:
        raise UserError(f"key={path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"key={path}: is not the key of a study ({error}); expected key.json in the study's folder"
        ) from error


def checksum(study: str, text: str) -> str:
    """The page's checksum of its answers, 32-bit FNV-1a. It detects edits by hand; it does not prevent fraud.

    Source: http://www.isthe.com/chongo/tech/comp/fnv/, offset basis 2166136261 and prime 16777619.
    """
    value = 2166136261
    for byte in (study + text).encode():
        value = (value ^ byte) * 16777619 % 2**32
    return f"{value:08x}"


def read_answers(path: Path, key: Key) -> tuple[int, dict[str, dict[str, int]]]:
    """Reads a rater's number and answers by trial.

    Raises:
        Excluded: If the file breaks a rule; the message names the rule.
    """
    try:
        raw = read_json(path)
        schema, study, rater = raw["schema"], raw["study"], raw["rater"]
        answers, mark = raw["answers"], raw["checksum"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Excluded(f"is not an answer file ({error})") from error
    if schema != ANSWERS_SCHEMA:
        raise Excluded(f"has the schema {schema!r}, expected {ANSWERS_SCHEMA}")
    if study != key.study:
        raise Excluded("belongs to another study")
    if not isinstance(rater, int) or not 1 <= rater <= len(key.orders):
        raise Excluded(f"rater {rater!r}: expected 1 to {len(key.orders)}")
    _require_answers(answers, key.orders[rater - 1])
    if mark != checksum(key.study, _canonical(rater, answers, key.orders[rater - 1])):
        raise Excluded("was changed after it was downloaded: its answers do not match its checksum")
    checks = {name: trial.demanded for name, trial in key.trials.items() if trial.demanded is not None}
    failed = sum(any(level != wanted for level in answers[name].values()) for name, wanted in checks.items())
    if failed > key.allowed_failures:
        raise Excluded(f"failed {failed} of {len(checks)} attention checks, at most {key.allowed_failures} may fail")
    return rater, answers


def _require_answers(answers: Any, order: tuple[str, ...]) -> None:
    if not isinstance(answers, dict) or set(answers) - set(order):
        raise Excluded("has answers to unknown trials")
    if lacking := len(set(order) - set(answers)):
        raise Excluded(f"is incomplete: {len(order) - lacking} of {len(order)} videos are rated")
    for name, row in answers.items():
        if not isinstance(row, dict) or set(row) != set(QUESTIONS):
            raise Excluded(f"video {name}: expected answers to {', '.join(QUESTIONS)}")
        for question, level in row.items():
            if isinstance(level, bool) or level not in LEVELS:
                raise Excluded(f"video {name}, {question}: {level!r} is not one of 1 to 5")


def _canonical(rater: int, answers: Mapping[str, Mapping[str, int]], order: tuple[str, ...]) -> str:
    """Text that the checksum is computed from: the rater and all answers in order, as the page writes them."""
    return f"{rater}|" + "|".join(":".join(str(answers[name][question]) for question in QUESTIONS) for name in order)


def collect_study(answers: Path, key_file: Path) -> dict[str, Any]:
    """Computes the results of a study.

    Raises:
        UserError: If no answer file is valid.
    """
    key = read_key(key_file)
    files = sorted(answers.glob("*.json")) if answers.is_dir() else []
    if not files:
        raise UserError(f"answers={answers}: has no .json; expected the folder of the raters' answer files")
    counted: defaultdict[int, list[tuple[str, dict[str, dict[str, int]]]]] = defaultdict(list)
    excluded: list[dict[str, str]] = []
    for path in files:
        try:
            rater, rows = read_answers(path, key)
            counted[rater].append((path.name, rows))
        except Excluded as error:
            excluded.append({"file": path.name, "reason": str(error)})
    ratings = []
    for rater, given in sorted(counted.items()):
        if any(rows != given[0][1] for _, rows in given):
            excluded += [{"file": name, "reason": f"rater {rater} gave two different answers"} for name, _ in given]
            continue
        ratings.append(given[0][1])
        excluded += [{"file": name, "reason": f"is a copy of {given[0][0]}"} for name, _ in given[1:]]
    if not ratings:
        raise UserError("no valid answer file: " + "; ".join(f"{row['file']} {row['reason']}" for row in excluded))
    copies = sum("is a copy of" in row["reason"] for row in excluded)
    return _results(key, ratings, excluded, len(files) - copies)


def _results(
    key: Key, ratings: list[dict[str, dict[str, int]]], excluded: list[dict[str, str]], files: int
) -> dict[str, Any]:
    rated = [trial for trial in key.trials.values() if trial.system is not None]
    systems: dict[str, dict[str, Any]] = defaultdict(dict)
    agreement = {}
    names = [str(trial.system) for trial in rated]
    for question in QUESTIONS:
        levels = np.array([[answers[trial.name][question] for trial in rated] for answers in ratings], float)
        centred = within_systems(levels, names)
        low, high = alpha_interval(centred, RESAMPLES, SEED)
        agreement[question] = {
            "alpha": _number(krippendorff_alpha(centred)),
            "low": _number(low),
            "high": _number(high),
            "over": "clips",
            "of": "ratings less the mean of their system",
        }
        own = {system: _by_sample(levels, rated, system) for system in dict.fromkeys(names)}
        for system, scores in own.items():
            interval = two_way_interval(scores)
            systems[system][question] = {
                "value": float(scores.mean()),
                "n": len(ratings),
                "expected": files,
                "counted": "raters",
                "interval": None if interval is None else {"low": interval[0], "high": interval[1], "over": OVER},
                "differences": {other: _difference(scores - own[other]) for other in own if other != system},
            }
    return {
        "schema": USER_STUDY,
        "study": key.study,
        "raters": len(ratings),
        "samples": len({trial.sample for trial in rated}),
        "questions": {name: {"title": title, "text": text} for name, (title, text) in QUESTIONS.items()},
        "protocol": {
            "name": "mean opinion, 1 to 5",
            "checks": sum(trial.demanded is not None for trial in key.trials.values()),
            "allowed_failures": key.allowed_failures,
            "samples": len({trial.sample for trial in rated}),
        },
        "systems": systems,
        "agreement": agreement,
        "excluded": excluded,
    }


def _by_sample(levels: np.ndarray, rated: Sequence[Trial], system: str) -> np.ndarray:
    """Returns the (R, C) ratings of one system, in the order of the samples' names."""
    own = sorted((str(trial.sample), place) for place, trial in enumerate(rated) if trial.system == system)
    return levels[:, [place for _, place in own]]


def _difference(ratings: np.ndarray) -> dict[str, Any]:
    """Mean difference of two systems over the same raters and clips, with its interval."""
    low, high = two_way_interval(ratings) or (None, None)
    return {"value": float(ratings.mean()), "low": low, "high": high, "over": OVER}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def write_study(results: Mapping[str, Any], output: Path) -> None:
    """Writes the results file.

    Raises:
        UserError: If it cannot be written, or is there and not a results file.
    """
    require_own_json(output, USER_STUDY.partition("/")[0], f"output={output}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(output, text)
    except OSError as error:
        raise UserError(f"output={output}: cannot be written ({error.strerror})") from error
