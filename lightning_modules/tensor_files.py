"""safetensors files with a JSON header that names their kind and version, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from encoders.weight_files import WrongWeights
from runtime.files import whole_file
from runtime.json_text import parse_json


def write_file(path: Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors with a header. An existing file is replaced only once the new one is complete.

    Args:
        path: Output file.
        kind: Metadata key that holds the header and identifies the kind of file.
        header: JSON-serialisable header.
        tensors: name -> tensor.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(contents, partial, metadata={kind: json.dumps(header, sort_keys=True)})


def read_file(path: Path, kind: str, version: int, again: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a file written by ``write_file``.

    Args:
        path: Input file.
        kind: Expected kind.
        version: Newest header version that can be read.
        again: Command that writes such a file, for messages.

    Returns:
        The header, and name -> tensor.

    Raises:
        WrongWeights: If the file is missing, damaged, of another kind, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {}).get(kind, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)
    except FileNotFoundError:
        raise WrongWeights(f"{path}: no such file; write it with {again}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise WrongWeights(f"{path}: cannot be read as safetensors ({error}); write it again with {again}") from error
    if not isinstance(header, dict):
        raise WrongWeights(f"{path}: is not an {kind}; it holds {', '.join(sorted(tensors)[:5])}")
    if int(header.get("version", 0)) > version:
        raise WrongWeights(f"{path}: version {header['version']} is newer than this program reads; update emotivetalk")
    return header, tensors
