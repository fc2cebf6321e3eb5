"""safetensors files that carry the SHA-256 of every tensor and of their header, and are checked when they are read.

safetensors itself has no checksums: a hole in the middle of a file would change weights silently. Hashing takes about
1 s per GB and core; the tensors are spread over the cores.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from runtime.files import whole_file
from runtime.json_text import parse_json
from runtime.platforms import usable_cores
from runtime.tensors import TensorFileError, check_regular

DIGESTS = "sha256"  # key of the header: {tensor name or HEADER: hash}
HEADER = "/header"  # no tensor of ours has such a name


def save_hashed(path: Path, tensors: Mapping[str, Tensor], kind: str, header: Mapping[str, Any]) -> None:
    """Writes tensors, a header and their hashes. The file appears only when complete, with the mode of the umask.

    Args:
        path: Output file.
        tensors: name -> tensor.
        kind: Metadata key of the header. It is the only one, since safetensors writes several in random order.
        header: JSON-serialisable header.

    Raises:
        OSError: If it cannot be written.
    """
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {**_digests(contents), HEADER: _of_header(header)}
    with whole_file(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode & 0o777  # as the umask wants it; safetensors would make the file private
        save_file(contents, partial, metadata={kind: json.dumps({**header, DIGESTS: digests}, sort_keys=True)})
        os.chmod(partial, mode)


def load_hashed(path: Path, kind: str | None = None, newest: int = 1) -> tuple[Any, dict[str, Tensor]]:
    """Reads header and tensors, and checks the hashes if the header has any (earlier versions wrote none).

    Args:
        path: Input file.
        kind: Metadata key of the header; None for files of others, which have no hashes.
        newest: Newest version whose hashes can be checked; the caller refuses a header with a newer one.

    Returns:
        The header, None if there is none, and name -> tensor.

    Raises:
        FileNotFoundError: If it does not exist.
        TensorFileError: If it is damaged anywhere; the message names the first damaged tensor.
    """
    check_regular(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {}).get(kind, "null")) if kind else None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TensorFileError(f"{path}: cannot be read as safetensors ({error})") from error
    stored = header.pop(DIGESTS, None) if isinstance(header, dict) else None
    version = header.get("version", 0) if isinstance(header, dict) else 0
    if header is not None and stored is not None and not (isinstance(version, int) and version > newest):
        _compare(path, stored, {HEADER: _of_header(header), **_digests(tensors)})
    return header, tensors


def read_header(path: Path, kind: str) -> Any:
    """Reads the header alone, in milliseconds; its hashes are not checked.

    Args:
        path: Input file.
        kind: Metadata key of the header.

    Raises:
        FileNotFoundError: If it does not exist.
        TensorFileError: If it cannot be read.
    """
    check_regular(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            return parse_json((file.metadata() or {}).get(kind, "null"))
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TensorFileError(f"{path}: cannot be read as safetensors ({error})") from error


def _compare(path: Path, stored: Any, found: Mapping[str, str]) -> None:
    if not isinstance(stored, dict):
        raise TensorFileError(f"{path}: its hashes cannot be read")
    names, wanted = set(stored), stored
    wrong = sorted(name for name in names | set(found) if name not in names or wanted[name] != found.get(name))
    if wrong:
        raise TensorFileError(
            f"{path}: {wrong[0].lstrip('/')} was changed after the file was written: its sha256 differs"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        )


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    with ThreadPoolExecutor(min(8, usable_cores())) as threads:
        return dict(zip(tensors, threads.map(_digest, tensors.values()), strict=True))


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    if tensor.numel():
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _of_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode()).hexdigest()
