"""Hashes of weights whose publisher states none: recorded when a file is first used, and compared from then on.

The records are in the user's cache, not next to the weights, so that whoever can replace the weights of a shared folder
cannot replace the record.
"""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import date
from pathlib import Path

from encoders.weight_files import WrongWeights
from runtime.files import sha256_of, write_whole
from runtime.folders import cache_folder
from runtime.json_text import parse_json

log = logging.getLogger(__name__)
CACHE = "recorded"


def check_recorded(path: Path) -> None:
    """Compares a file with the hash that was recorded when it was first used; records it the first time.

    Raises:
        WrongWeights: If the file has changed since.
        OSError: If it cannot be read.
    """
    record = record_of(path)
    found = sha256_of(path)
    try:
        known = parse_json(record.read_text(encoding="utf-8"))
        expected, since = str(known["sha256"]), str(known["since"])
    except FileNotFoundError:
        _write(record, path, found)
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongWeights(f"{record}: the record of {path} cannot be read ({error}); remove it") from error
    if found != expected:
        raise WrongWeights(
            f"{path}: has changed: sha256 {found}, on {since} it was {expected}. Its publisher states no hash. If you "
            f"replaced it yourself, remove {record}"
        )


def record_of(path: Path) -> Path:
    """File that holds the recorded hash of a file; need not exist."""
    name = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder(CACHE) / f"{name}.json"


def _write(record: Path, path: Path, digest: str) -> None:
    text = json.dumps({"path": str(path.resolve()), "sha256": digest, "since": date.today().isoformat()}, indent=1)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, f"{text}\n")
    except OSError as error:
        log.warning("%s: cannot be written (%s); %s is not compared next time", record, error.strerror, path)
        return
    log.warning("%s: its publisher states no hash; sha256 %s was recorded and is compared from now on", path, digest)
