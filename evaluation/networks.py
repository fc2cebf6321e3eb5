"""The metrics' networks: found through the weight registry, or in a file the user names, and how official they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from encoders.weights import WEIGHTS, MissingWeights, WeightsError, locate
from evaluation.pairs import Missing
from metrics.networks.proxy import load_proxy as read_proxy
from runtime.errors import UserError
from runtime.files import git_blob_of, sha256_of

Network = TypeVar("Network", bound=nn.Module)


class NotComputed(UserError):
    """A metric that cannot be computed; the others can.

    Attributes:
        missing: the videos that were to blame.
    """

    def __init__(self, reason: str, missing: Sequence[Missing] = ()) -> None:
        super().__init__(reason)
        self.missing = tuple(missing)


@dataclass(frozen=True)
class Source:
    """Where a network's numbers come from; saved beside every value.

    Attributes:
        network: the network's name.
        file: its file's name.
        sha256: of that file.
        official: the file is the one the metric's reference uses.
        note: what a reader has to know, or None.
    """

    network: str
    file: str
    sha256: str
    official: bool
    note: str | None = None

    def record(self) -> dict[str, object]:
        """As the results file holds it."""
        return {name: value for name, value in asdict(self).items() if name != "note" or value}


@dataclass(frozen=True)
class LoadedNetwork(Generic[Network]):
    """A network on its device, and where it comes from."""

    network: Network
    source: Source


def load(
    name: str,
    file: str | None,
    title: str,
    build: Callable[[Path], Network],
    device: torch.device,
    proxy: bool = False,
) -> LoadedNetwork[Network]:
    """Builds a network from the registry's weights or from a file.

    Args:
        name: of the weights in the registry.
        file: the user's own file, which is official only if it has the official hash; None for the registry's.
        title: the network's name for people.
        build: makes the network of a file.
        device: where it shall run.
        proxy: the network is not the metric's own, whatever its file.

    Raises:
        NotComputed: if the weights are missing, have another hash, or do not fit.
    """
    try:
        path = locate(name) if file is None else Path(file)
        network = build(path).to(device)
    except MissingWeights as error:
        needed = WEIGHTS[name].files[0].path
        raise NotComputed(f"needs {needed}\n{error}") from error
    except (WeightsError, ValueError, OSError) as error:
        raise NotComputed(str(error)) from error
    return LoadedNetwork(network, describe(name, path, title, chosen=file is not None, proxy=proxy))


def load_proxy(
    metric: str, kind: str, file: str | None, device: torch.device, expected: type[Network]
) -> LoadedNetwork[Network]:
    """Builds a proxy from the file that train.py wrote.

    Args:
        metric: whose configuration names the file.
        kind: sync, image, video or expression.
        file: the file.
        device: where it shall run.
        expected: the network's class.

    Raises:
        NotComputed: if the file is not named, or is something else.
    """
    if file is None:
        raise NotComputed(
            f"needs {metric}.weights=FILE: the proxy_{kind}.safetensors that python train.py "
            f"experiment=proxy/{kind} writes"
        )
    try:
        network, info = read_proxy(Path(file), kind)
    except (ValueError, OSError) as error:
        raise NotComputed(str(error)) from error
    assert isinstance(network, expected)
    title = f"proxy for {kind}, trained on {info.speakers} speakers of {info.dataset}"
    note = (
        f"{Path(file).name} stands in for the metric's own network (it was trained on {info.clips} clips of "
        f"{info.speakers} speakers of {info.dataset}): compare its values only with its own"
    )
    return LoadedNetwork(
        network.to(device), Source(title, Path(file).name, sha256_of(Path(file)), official=False, note=note)
    )


def describe(name: str, path: Path, title: str, chosen: bool, proxy: bool = False) -> Source:
    """Says how official a file is."""
    known = WEIGHTS[name].files[0]
    sha256 = sha256_of(path)
    if known.sha256 or known.git_blob:
        official = sha256 == known.sha256 or (known.git_blob is not None and git_blob_of(path) == known.git_blob)
        note = None if official else f"{path.name} is not the official {Path(known.path).name}"
    else:  # no hash was ever published: the registry's own place for it is all there is to go by
        official = not chosen
        note = f"no hash of {Path(known.path).name} is published, so it cannot be confirmed"
    if proxy:
        official, note = False, f"{title} stands in for the metric's own network"
    return Source(title, path.name, sha256, official, note)
