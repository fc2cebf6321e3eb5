"""Files of tensors with a JSON header: one safetensors file that says what it is and is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from encoders.weight_files import WrongWeights
from runtime.files import whole_file


def write_file(path: Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors and a header under its kind's name; an older file stays until the new one is whole.

    Raises:
        OSError: when it cannot be written.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(contents, partial, metadata={kind: json.dumps(header, sort_keys=True)})


def read_file(path: Path, kind: str, version: int, again: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what ``write_file`` wrote.

    Args:
        path: the file.
        kind: it was written under.
        version: of the header, the newest this program reads.
        again: what makes such a file, for messages.

    Raises:
        WrongWeights: when the file is missing, damaged, of another kind, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(kind, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)
    except FileNotFoundError:
        raise WrongWeights(f"{path}: no such file; {again} writes it") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise WrongWeights(f"{path}: cannot be read as safetensors ({error}); {again} writes it anew") from error
    if not isinstance(header, dict):
        raise WrongWeights(f"{path}: is not an {kind}; it holds {', '.join(sorted(tensors)[:5])}")
    if int(header.get("version", 0)) > version:
        raise WrongWeights(f"{path}: version {header['version']} is newer than this program reads; update emotivetalk")
    return header, tensors
