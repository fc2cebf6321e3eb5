"""safetensors files with a JSON header that names their kind and version, written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from encoders.weight_files import WrongWeights
from runtime.hashed_tensors import load_hashed, save_hashed
from runtime.tensors import TensorFileError


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
    path.parent.mkdir(parents=True, exist_ok=True)
    save_hashed(path, tensors, kind, header)


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
        WrongWeights: If the file is missing, damaged anywhere, of another kind, or of a newer version.
    """
    try:
        header, tensors = load_hashed(path, kind, version)
    except FileNotFoundError:
        raise WrongWeights(f"{path}: no such file; write it with {again}") from None
    except TensorFileError as error:
        raise WrongWeights(f"{error}; write it again with {again}") from error
    if not isinstance(header, dict):
        raise WrongWeights(f"{path}: is not an {kind}; it holds {', '.join(sorted(tensors)[:5])}")
    if type(header.get("version", 0)) is not int:
        raise WrongWeights(f"{path}: version {header['version']!r} is not a number; write it again with {again}")
    if header.get("version", 0) > version:
        raise WrongWeights(f"{path}: version {header['version']} is newer than this program reads; update emotivetalk")
    return header, tensors
