"""Finds old names and unclear phrases in the project's files; ``tools/words.yaml`` lists them.

    python -m tools.check_words

Prints a line for each, then how many every folder holds. Exit status 1 where there are any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from configs.options import read_options, run_script

ROOT = Path(__file__).parents[1]
TEXTS = re.compile(r".*\.(py|md|yaml|yml|toml|html|sh|sbatch|ipynb)|(.*/)?(Makefile|Dockerfile)|\.ci/run")
# What names the old words for a reason: their tables, stored files and the tests of both.
EXCEPT = re.compile(
    r"CHANGELOG\.md|tests/stored/.*|tests/test_stored_files\.py|configs/renamed\.py|tests/configs/test_renamed\.py"
    r"|tools/words\.yaml|tools/check_words\.py|tests/tools/test_check_words\.py|lightning_modules/emotion/english\.yaml"
)
# File -> lines with old names that earlier versions stored.
READS_OLD = {
    "evaluation/landmarks.py": re.compile(r"name = "),
    "Makefile": re.compile(r"STANDINS|make prove"),
    "benchmark/tables/reading.py": re.compile(r"stand-in"),
    "metrics/networks/proxy.py": re.compile(r'"emotivetalk\.standin"|"standin_'),
    "tools/profiling/reports/2026-11-23-nightly.md": re.compile(r": all as it should be$"),  # output of a dated run
}


@dataclass(frozen=True)
class Rule:
    """A name or phrase that is not used.

    Attributes:
        find: Regular expression of one line.
        write: What to write in its place.
        files: Regular expression of the paths it holds for.
        exempt: Regular expression of paths it does not hold for.
    """

    find: re.Pattern[str]
    write: str
    files: re.Pattern[str]
    exempt: re.Pattern[str]


def read_rules(file: Path = ROOT / "tools" / "words.yaml") -> list[Rule]:
    """The rules of a file."""
    return [
        Rule(
            re.compile(entry["find"]),
            entry["write"],
            re.compile(entry.get("files", ".*")),
            re.compile(entry.get("except", "(?!)")),
        )
        for entry in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


def found_in(name: str, text: str, rules: Sequence[Rule]) -> Iterator[str]:
    """One line ``path:line: found; write ...`` for each place in a file."""
    chosen = [rule for rule in rules if rule.files.fullmatch(name) and not rule.exempt.fullmatch(name)]
    reads_old = READS_OLD.get(name)
    for number, line in enumerate(text.splitlines(), 1):
        if reads_old is None or not reads_old.search(line):
            for rule in chosen:
                for match in rule.find.finditer(line):
                    yield f"{name}:{number}: {match[0].strip()!r}; write {rule.write}"


def tracked() -> list[str]:
    """Paths of the texts that git tracks."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = (name for name in listed.splitlines() if (ROOT / name).is_file())
    return [name for name in names if TEXTS.fullmatch(name) and not EXCEPT.fullmatch(name)]


def main() -> int:
    """Prints what is found; returns the exit status."""
    read_options(__doc__, sys.argv[1:], {})
    rules, rooms = read_rules(), Counter[str]()
    for name in tracked():
        for line in found_in(name, (ROOT / name).read_text(encoding="utf-8"), rules):
            print(line)
            rooms["/".join(name.split("/")[:-1][:2]) or name] += 1
    if rooms:
        print("; ".join(f"{room}: {number}" for room, number in sorted(rooms.items())), file=sys.stderr)
    return int(bool(rooms))


if __name__ == "__main__":
    run_script(main)
