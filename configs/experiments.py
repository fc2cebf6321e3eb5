"""List of the experiments, one line each, which ``train.py experiment=`` prints for a missing or wrong name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from configs.lab import CONFIG_FOLDER, lab_folders, named_folders, use_lab
from configs.renamed import current_names

FOLDER = CONFIG_FOLDER / "experiment"


def experiments() -> dict[str, str]:
    """Name -> first sentence of the file, for every experiment."""
    folders = [FOLDER, *(folder / "experiment" for folder in lab_folders())]
    files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.yaml"))]
    return {file.relative_to(folder).with_suffix("").as_posix(): _opening(file) for folder, file in files}


def require_experiment(arguments: Sequence[str], keys: Collection[str] = ()) -> None:
    """Lists the experiments and exits with 2 if ``experiment=`` names none, or if no key names what to train.

    Args:
        arguments: Words of the command line.
        keys: Keys of the command. Without an experiment, a key that is nearly one of them is named instead.
    """
    use_lab(folder for folder in named_folders(arguments) if folder.is_dir())
    arguments = current_names(arguments, report=lambda line: None)  # reported where the command line is read
    chosen = [argument.partition("=")[2] for argument in arguments if argument.startswith("experiment=")]
    # Words that are not key=value are refused where the command line is read.
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
    """Message for a name of no experiment, with the nearest name and the list; None for a name of an experiment."""
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
    """The comment between the package line and the line of costs."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("# Cost:"):
            break
        if not line.startswith("# @package"):
            words.append(line.removeprefix("# ").strip())
    return " ".join(words)
