"""The one place where files of tensors are read. No file can run code here, whoever wrote it.

Formats: archives of ``torch.save``, TorchScript archives, and safetensors. A test checks that no other module calls
``torch.load`` or ``torch.jit.load``.
"""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.errors import UserError, first_line

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_MAX_UNPACKED = 1 << 26  # bytes of an archive's compressed members; torch compresses only the code of TorchScript
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class TensorFileError(UserError, ValueError):
    """A file of tensors that is damaged, or that contains something else."""


def load_saved(path: str | Path, mmap: bool = False, safe: Sequence[Any] = ()) -> Any:
    """Loads a file of ``torch.save`` on the CPU: tensors, plain containers and instances of the named classes.

    Args:
        path: File.
        mmap: Whether tensors are memory-mapped, so that only the parts in use are read.
        safe: Further classes, whose instances may be in the file.

    Raises:
        FileNotFoundError: If it does not exist.
        TensorFileError: If it is damaged or contains other objects. No code of the file has run.
    """
    path = Path(path)
    check_archive(path)
    try:
        with torch.serialization.safe_globals(list(safe)):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise TensorFileError(
            f"{path}: not loaded: it is damaged or has more than tensors, and a pickle can run any code "
            f"({first_line(error)})"
        ) from error
    except (Exception, MemoryError) as error:  # damaged bytes make torch raise errors of any type
        raise TensorFileError(f"{path}: cannot be read as a PyTorch file ({first_line(error)})") from error
    for tensor in _tensors_in(found):
        if tensor.layout == torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise TensorFileError(f"{path}: has a tensor {tuple(tensor.shape)} with fewer values than its shape has")
    return found


def other_classes(path: Path, safe: Sequence[str] = ()) -> list[str]:
    """Names in a file of ``torch.save`` that ``load_saved`` would refuse. Nothing is unpickled to find them.

    Args:
        path: File.
        safe: Names of further classes that may be in the file.

    Raises:
        TensorFileError: If the file is damaged.
    """
    check_archive(path)
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (Exception, MemoryError) as error:  # as above
        raise TensorFileError(f"{path}: cannot be read as a PyTorch file ({first_line(error)})") from error
    return sorted(set(found) - set(safe))


def load_torchscript(path: Path, published: bool) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive by name.

    Args:
        path: Archive.
        published: Whether the file has the hash that its publisher states. Torch loads only such a file, since
            loading a TorchScript module can run its code. The tensors of others are read from the archive itself.

    Raises:
        TensorFileError: If it is damaged, or has other objects than modules and tensors.
    """
    check_archive(path)
    try:
        if published:
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        with zipfile.ZipFile(path) as archive:
            folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            module = _ScriptReader(archive, folder).load()
    except (Exception, MemoryError) as error:  # as above
        raise TensorFileError(f"{path}: cannot be read as TorchScript ({first_line(error)})") from error
    found = dict(_state(module, "", 0))
    if not found:
        raise TensorFileError(f"{path}: is TorchScript without parameters that can be read without running its code")
    return found


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of ``torch.jit.save``."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def check_archive(path: Path) -> None:
    """Checks that a file is no pipe or device, and that the members of an archive are not longer than the archive.

    Raises:
        FileNotFoundError: If it does not exist.
        TensorFileError: If not.
    """
    status = check_regular(path)
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise TensorFileError(f"{path}: cannot be read as an archive ({first_line(error)})") from error
    packed = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    stored = sum(member.file_size for member in members if member.compress_type == zipfile.ZIP_STORED)
    if packed > _MAX_UNPACKED or stored > status.st_size:
        raise TensorFileError(
            f"{path}: unpacks to {packed + stored} bytes from {status.st_size}; torch packs no tensors"
        )


def check_regular(path: Path) -> os.stat_result:
    """Status of a file, which must be no folder, pipe or device: to open one could wait for ever.

    Raises:
        FileNotFoundError: If it does not exist.
        TensorFileError: If it is none.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise TensorFileError(f"{path}: is not a regular file")
    return status


def damaged_member(path: Path) -> str | None:
    """Name of the first member of an archive whose content differs from its checksum; None if all are whole.

    Reads the whole file, at about 2 GB/s if it is in memory.

    Raises:
        OSError: If it cannot be read.
        zipfile.BadZipFile: If it is not an archive.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            try:
                with archive.open(member) as stream:
                    while stream.read(1 << 22):
                        pass
            except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError):  # wrong checksum, or header
                return member.filename
    return None


class _ScriptObject:
    """Stands for a module of a TorchScript archive: its attributes, without its code."""

    def __init__(self, *_: Any) -> None:
        self.attributes: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _ScriptReader(pickle._Unpickler):  # that in C can be made to fill the memory
    """Unpickles the attributes of a TorchScript archive. Its names give inert objects, lists and tensors only."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Returns the inert class of a name; all others are refused."""
        if module.split(".")[0] == "__torch__":
            return _ScriptObject
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in _LISTS:
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _: value
        raise pickle.UnpicklingError(f"{module}.{name} is not a tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        """Reads the values of one storage."""
        _, dtype, key, _, count = pid
        if dtype not in _STORAGES.values():
            raise pickle.UnpicklingError(f"storage of {dtype!r}")
        data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    view = torch.as_strided(storage, tuple(size), tuple(stride), offset)  # checks the bounds
    if view.numel() > storage.numel():
        raise pickle.UnpicklingError(f"a tensor {tuple(size)} with fewer values than its shape has")
    return view


def _state(module: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth > 100 or not isinstance(module, _ScriptObject) or not isinstance(module.attributes, Mapping):
        return
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _state(value, f"{prefix}{name}.", depth + 1)


def _tensors_in(tree: Any) -> Iterator[Tensor]:
    waiting, seen = [tree], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping | list | tuple | set) and id(part) not in seen:
            seen.add(id(part))  # a pickle can contain itself
            waiting += part.values() if isinstance(part, Mapping) else part
