"""A check of YAML that others may have written, before it is loaded."""

from __future__ import annotations

from pathlib import Path

import yaml

MOST = 1 << 20  # bytes; the configuration of a run has 4 KiB
DEPTH = 50


def check_yaml(path: Path) -> None:
    """Checks that a file is short, plain YAML: without aliases, which can stand for gigabytes, and not nested deeply.

    Raises:
        OSError: If it cannot be read.
        ValueError: If not, or if it is not YAML in UTF-8.
    """
    if path.stat().st_size > MOST:
        raise ValueError(f"has {path.stat().st_size} bytes, expected at most {MOST}")
    depth = 0
    try:
        for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(
                    f"line {event.start_mark.line + 1} has an alias (*{event.anchor}); write the value out"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise ValueError(f"is nested more than {DEPTH} times")
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
