"""Reading the metrics' checkpoints: never pickled code, always strict, always known by hash."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Weights = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class OfficialFile:
    """How the official checkpoint of a metric is recognised.

    Attributes:
        file: its usual name.
        address: where it is published.
        git_blob: what ``git hash-object`` prints, where that is the known identity.
        sha256_start: first hex digits of its sha256, where those are known.
    """

    file: str
    address: str
    git_blob: str | None = None
    sha256_start: str | None = None


INCEPTION = OfficialFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256_start="6726825d",
)
I3D_TORCHSCRIPT = OfficialFile(
    "i3d_torchscript.pt",
    "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    git_blob="93daef59c7ae0e9e8f76225521407e60cbafa6aa",
)
I3D_VIDEOGPT = OfficialFile(
    "i3d_pretrained_400.pt",
    "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
    git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
)
SYNCNET = OfficialFile(
    "syncnet_v2.model",
    "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
    git_blob="d714bbf3b30324ced69e3815fc41ae6dc519303c",
)
S3FD = OfficialFile(
    "sfd_face.pth",
    "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/sfd_face.pth",
    git_blob="2bdf053a994371d57f6f535cb2682dc3e2990e89",
)
DEEP3D = OfficialFile(  # no hash of it was ever published: it is recorded, but cannot be confirmed
    "epoch_20.pth", "https://drive.google.com/drive/folders/1liaIxn9smpudjjqMaWWRpP0mXRW_qRPP"
)
THREE_DDFA = OfficialFile(
    "mb05_120x120.pth",
    "https://github.com/cleardusk/3DDFA_V2/raw/master/weights/mb05_120x120.pth",
    sha256_start="f93ed7f1c4c0382b16d7c18480a5f67473c1917a47475a9823924f38aeb27280",
)


@dataclass(frozen=True)
class Provenance:
    """Which numbers a network holds; reported beside every value it gives.

    Attributes:
        network: the network's name.
        file: the checkpoint's file name, or None for tensors handed over in memory.
        sha256: the checkpoint's hash, or None likewise.
        official: the file is the one the metric's reference uses.
    """

    network: str
    file: str | None = None
    sha256: str | None = None
    official: bool = False


def provenance(network: str, weights: Weights, known: tuple[OfficialFile, ...]) -> Provenance:
    """Hashes a checkpoint and compares it with the known official files."""
    if isinstance(weights, Mapping):
        return Provenance(network)
    path = Path(weights)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    official = any(
        (file.git_blob == blob) if file.git_blob else bool(file.sha256_start and sha256.startswith(file.sha256_start))
        for file in known
    )
    return Provenance(network, path.name, sha256, official)


def read_tensors(weights: Weights, expected: OfficialFile, part: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, from a state dict, a dict around one, or a TorchScript archive.

    Args:
        weights: path, or the tensors themselves.
        expected: named in errors.
        part: key of the state dict inside a larger checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else than tensors by name.
    """
    if isinstance(weights, Mapping):
        return dict(weights)
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {expected.file} is published at {expected.address}")
    loaded: Any
    try:
        if _is_torchscript(path):
            loaded = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint that loads without running code ({error}); expected {expected.file} from "
            f"{expected.address}"
        ) from None
    if part is not None:
        if not isinstance(loaded, Mapping) or part not in loaded:
            found = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
            raise ValueError(f"{path} has no entry {part!r} (found {found}); expected {expected.file}")
        loaded = loaded[part]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path} does not hold tensors by name; expected {expected.file} from {expected.address}")
    return dict(loaded)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], expected: OfficialFile) -> None:
    """Copies tensors into a module; every name and shape must fit.

    Only ``num_batches_tracked`` may be missing: old checkpoints lack it and evaluation never reads it.

    Raises:
        ValueError: naming the first names and shapes that do not fit.
    """
    own = module.state_dict()
    tensors = dict(tensors)
    for name in own:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, own[name])
    missing = [name for name in own if name not in tensors]
    surplus = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if missing or surplus or shapes:
        parts = [
            f"{len(found)} {what} (first: {found[0]})"
            for what, found in (("missing", missing), ("unknown", surplus), ("of another shape", shapes))
            if found
        ]
        raise ValueError(
            f"the weights are not those of {type(module).__name__}: {', '.join(parts)}. Expected {expected.file} from "
            f"{expected.address}"
        )
    module.load_state_dict(tensors, strict=True)


def frozen(module: nn.Module) -> None:
    """Evaluation mode, no gradients."""
    module.eval().requires_grad_(False)
