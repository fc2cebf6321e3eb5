"""The command line of the user study: build and collect."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.user_study.answers import collect_study, write_study
from benchmark.user_study.build import StudyError, build_study
from benchmark.user_study.design import QUESTIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.user_study", description="The user study of Table 4.")
    tasks = parser.add_subparsers(dest="task", required=True)
    build = tasks.add_parser("build", help="make the rating page")
    build.add_argument("--system", action="append", required=True, metavar="NAME=DIR", help="a system's videos")
    build.add_argument("--output", type=Path, required=True, help="folder of the study; page/ goes to the raters")
    build.add_argument("--samples", type=int, default=10, help="clips of each system")
    build.add_argument("--raters", type=int, default=26, help="orders to prepare, one per rater")
    build.add_argument("--checks", type=int, default=3, help="attention checks per rater")
    build.add_argument("--allowed-failures", type=int, default=1, help="more failed checks exclude a rater")
    build.add_argument("--seed", type=int, default=0, help="of names, orders and checks")
    build.add_argument("--embed", action="store_true", help="one file with the clips inside")
    collect = tasks.add_parser("collect", help="make the results of answer files")
    collect.add_argument("--answers", type=Path, required=True, help="folder of the raters' files")
    collect.add_argument("--key", type=Path, required=True, help="key.json of the study")
    collect.add_argument("--output", type=Path, required=True, help="a .json in the folder of the results")
    keys = vars(parser.parse_args(arguments))
    try:
        return _build(keys) if keys.pop("task") == "build" else _collect(**keys)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _build(keys: dict[str, object]) -> int:
    given = keys.pop("system")
    assert isinstance(given, list)
    systems: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or name in systems:
            raise StudyError(f"--system {text}: expected NAME=DIR, each name once")
        systems[name] = Path(folder).expanduser()
    page = build_study(systems, **keys)  # type: ignore[arg-type]
    print(f"page  {page.parent}  (give this folder to the raters, and each a number from 1 to {keys['raters']})")
    print(f"key   {page.parent.parent / 'key.json'}  (keep this one to yourself)")
    return 0


def _collect(answers: Path, key: Path, output: Path) -> int:
    results = collect_study(answers, key)
    write_study(results, output)
    for row in results["excluded"]:
        print(f"excluded: {row['file']} {row['reason']}")
    for system, entries in results["systems"].items():
        told = ", ".join(f"{title} {entries[name]['value']:.2f}" for name, (title, _) in QUESTIONS.items())
        print(f"{system}: {told}")
    print(f"{results['raters']} raters: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
