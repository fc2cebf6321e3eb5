"""Names that a cell of the tables may have: those of the paper, and those that are registered.

Systems are registered by their YAML file (``benchmark/systems`` or ``systems/`` in a folder given by ``--config-dir``),
datasets by their class (``configs/registries.py`` or ``plugins=[dataset:module.Class]``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from benchmark.paper import TABLES, paper_table
from benchmark.system import described
from configs.errors import ConfigError
from configs.evaluation import CellConfig
from configs.registries import DATASETS, METRICS

OWN = {f"emotivetalk_{how}": "emotivetalk" for how in ("a", "av", "wo_lip", "wo_exp")}  # one system in the tables
PSEUDO = ("swapped_speech", "still_image", "shifted_10_frames")  # benchmark.pseudo_systems
SHIFTED = re.compile(r"shifted_\d+_frames")
TEST_SETS = ("mini",)  # benchmark.test_sets, of a folder of videos


def known_names() -> dict[str, tuple[str, ...]]:
    """Returns the known names of ``cell.system``, ``cell.dataset`` and ``cell.variant``."""
    rows = [row for number in TABLES for group in paper_table(number).groups for row in group.rows]
    systems = [row.system for row in rows] + [OWN.get(name, name) for name in described()] + list(PSEUDO)
    datasets = [name for number in TABLES for name in paper_table(number).datasets if name != "user_study"]
    return {
        "system": tuple(dict.fromkeys(systems)),
        "dataset": tuple(dict.fromkeys([*datasets, *DATASETS.names(), *TEST_SETS])),
        "variant": tuple(dict.fromkeys(row.variant for row in rows)),
    }


def check_names(cell: CellConfig) -> None:
    """Refuses names that are neither the paper's nor registered; they are probably misspelt.

    Raises:
        ConfigError: Names the key, its value and the nearest name.
    """
    if not cell.system or cell.new:
        return
    for part, known in known_names().items():
        name = str(getattr(cell, part))
        if name in known or (part == "system" and SHIFTED.fullmatch(name)):
            continue
        near = nearest(name, known)
        raise ConfigError(
            f"cell.{part}={name}: "
            + (f"did you mean {near}? " if near else "")
            + f"There are {', '.join(known)}; for a {part} of your own add cell.new=true"
        )


def check_columns(names: Iterable[str]) -> None:
    """Refuses columns that no registered metric has.

    Raises:
        ConfigError: Names the column and the nearest one.
    """
    known = [column.metric for metric in METRICS.names() for column in METRICS.get(metric).columns]
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}? " if near else ""
            raise ConfigError(f"columns=[{name}]: no metric has it; {hint}There are {', '.join(known)}")


def check_datasets(datasets: Iterable[str], found: Iterable[str]) -> None:
    """Refuses datasets of a table that are neither known nor in a results file.

    Args:
        datasets: Names that replace the paper's.
        found: ``cell.dataset`` of the results.

    Raises:
        ConfigError: Names the dataset and the nearest name.
    """
    known = tuple(dict.fromkeys([*found, *known_names()["dataset"]]))
    for name in datasets:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}? " if near else ""
            raise ConfigError(f"datasets=[{name}]: no results file has it; {hint}There are {', '.join(known)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most similar, whatever its case; None if none is."""
    lower = {plain(one): one for one in known}
    near = difflib.get_close_matches(plain(name), lower, n=1, cutoff=0.7)
    return lower[near[0]] if near else None


def plain(name: str) -> str:
    """Returns a name in lower case, without marks."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
