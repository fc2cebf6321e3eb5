"""The experiments there are, with one line each: what ``train.py experiment=`` lists for a missing or wrong name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from configs.lab import CONFIG_FOLDER, lab_folders, named_folders, use_lab

FOLDER = CONFIG_FOLDER / "experiment"


def experiments() -> dict[str, str]:
    """Every experiment's name and the sentence its file opens with."""
    folders = [FOLDER, *(folder / "experiment" for folder in lab_folders())]
    files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.yaml"))]
    return {file.relative_to(folder).with_suffix("").as_posix(): _opening(file) for folder, file in files}


def require_experiment(arguments: Sequence[str], keys: Collection[str] = ()) -> None:
    """Lists the experiments and exits with 2 where ``experiment=`` names none, or nothing says what to train.

    Args:
        arguments: As typed.
        keys: Keys of the command; where no experiment is named, one that is not among them but near is named instead.
    """
    use_lab(folder for folder in named_folders(arguments) if folder.is_dir())
    chosen = [argument.partition("=")[2] for argument in arguments if argument.startswith("experiment=")]
    # What is not written key=value is refused where the command line is read.
    if not chosen and not any(argument.startswith(("-", "stage=")) or "=" not in argument for argument in arguments):
        chosen = [""]
        typed = [argument.partition("=")[0].lstrip("+") for argument in arguments]
        for key in typed if keys else ():
            if key not in keys and (near := difflib.get_close_matches(key, keys, n=1)):
                print(f"error: there is no key '{key}'; did you mean {near[0]}? --help shows examples", file=sys.stderr)
                sys.exit(2)
    for name in chosen[-1].split(",") if chosen else []:  # a sweep names several
        if name != "null" and (wrong := why_unknown(name)):
            print(wrong, file=sys.stderr)
            sys.exit(2)


def why_unknown(name: str) -> str | None:
    """What to say of a name that is no experiment's: the nearest, and those there are; None for one that is."""
    there = experiments()
    name = name.strip().strip("'\"/")
    if name in there:
        return None
    stage = {known: line for known, line in there.items() if known.startswith(f"{name}/")}
    listed = stage or there
    width = max(map(len, listed))
    lines = [f"  experiment={known:{width}}  {line}" for known, line in listed.items()]
    if not name or stage:
        message = "name one"
    else:
        near = [known for known in there if known.endswith(f"/{name}")] or difflib.get_close_matches(name, there, n=2)
        message = "there is no such experiment" + (f"; did you mean {' or '.join(near)}?" if near else "")
    return "\n".join([f"error: experiment={name}: {message}", *lines, f"Cost, result and command of each: {FOLDER}/"])


def _opening(file: Path) -> str:
    """The comment below the package line, up to where the costs begin."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("# Cost:"):
            break
        if not line.startswith("# @package"):
            words.append(line.removeprefix("# ").strip())
    return " ".join(words)
