"""The command line of the user study: build and collect."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import user_study
from benchmark.user_study.answers import collect_study, write_study
from benchmark.user_study.build import RATERS, build_study
from benchmark.user_study.design import QUESTIONS
from configs.options import Readers, named_paths, path, read_command, read_options, run_script, whole, yes

NUMBERS = ("samples", "raters", "checks", "allowed_failures", "seed")


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and does one of the two.

    Raises:
        UserError: if it cannot be done.
    """
    if read_command(user_study.__doc__, arguments, ("build", "collect")) == "collect":
        known: Readers = dict.fromkeys(("answers", "key", "output"), path)
        _collect(**read_options(user_study.__doc__, arguments[1:], known, required=tuple(known)))
    else:
        known = {"system": named_paths, "output": path, **dict.fromkeys(NUMBERS, whole), "embed": yes}
        _build(**read_options(user_study.__doc__, arguments[1:], known, required=("system", "output")))


def _build(system: dict[str, Path], raters: int = RATERS, **options: Any) -> None:
    page = build_study(system, raters=raters, **options)
    print(f"page  {page.parent}  (give this folder to the raters, and each a number from 1 to {raters})")
    print(f"key   {page.parent.parent / 'key.json'}  (keep this one to yourself)")


def _collect(answers: Path, key: Path, output: Path) -> None:
    results = collect_study(answers, key)
    write_study(results, output)
    for row in results["excluded"]:
        print(f"excluded: {row['file']} {row['reason']}")
    for system, entries in results["systems"].items():
        message = ", ".join(f"{title} {entries[name]['value']:.2f}" for name, (title, _) in QUESTIONS.items())
        print(f"{system}: {message}")
    print(f"{results['raters']} raters: {output}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
