"""Loads the metrics' networks from the weight registry or a user's file, and records whether they are official."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from encoders.weights import WEIGHTS, MissingWeights, WeightsError, locate
from evaluation.pairs import Missing
from metrics.networks.proxy import load_proxy as read_proxy
from runtime.errors import UserError
from runtime.files import git_blob_of, sha256_of

Network = TypeVar("Network", bound=nn.Module)


class NotComputed(UserError):
    """Raised if a metric cannot be computed; the evaluation continues with the other metrics.

    Attributes:
        missing: Videos that caused the failure.
    """

    def __init__(self, reason: str, missing: Sequence[Missing] = ()) -> None:
        super().__init__(reason)
        self.missing = tuple(missing)


@dataclass(frozen=True)
class Source:
    """Origin of a network's weights, stored with every value.

    Attributes:
        network: Name of the network.
        file: Name of the weight file.
        sha256: Hash of the weight file.
        official: Whether the file is the one of the metric's reference implementation.
        note: Warning for the reader, or None.
    """

    network: str
    file: str
    sha256: str
    official: bool
    note: str | None = None

    def record(self) -> dict[str, object]:
        """Returns the entry of the results file."""
        return {name: value for name, value in asdict(self).items() if name != "note" or value}


class LoadedNetwork(Generic[Network]):
    """Network on its device, with the origin of its weights.

    It is built at its first use: an evaluation whose features are all in the cache builds none.

    Args:
        build: Builds the network.
        source: Origin of the weights.
    """

    def __init__(self, build: Callable[[], Network], source: Source) -> None:
        self._build = build
        self.source = source

    @property
    def network(self) -> Network:
        """The network.

        Raises:
            NotComputed: If the weights do not fit; the same error at every use.
        """
        if isinstance(self._built, NotComputed):
            raise self._built
        return self._built

    def __call__(self, inputs: Tensor) -> Tensor:
        """Runs the network; see ``network``."""
        return self.network(inputs)

    @cached_property
    def _built(self) -> Network | NotComputed:
        try:
            return self._build()
        except (WeightsError, ValueError, OSError) as error:
            return NotComputed(str(error))


def load(
    name: str,
    file: str | None,
    title: str,
    build: Callable[[Path], Network],
    device: torch.device,
    proxy: bool = False,
) -> LoadedNetwork[Network]:
    """Finds the weights of a network, which is built from them at its first use.

    Args:
        name: Name of the weights in the registry.
        file: Weight file of the user, which is official if it has the official hash; None for the registry's file.
        title: Name of the network in results.
        build: Builds the network from a file.
        device: Device of the network.
        proxy: Whether the network is a proxy, which is never official.

    Raises:
        NotComputed: If the weights are missing, or have a wrong hash.
    """
    needed = WEIGHTS[name].files[0].path
    try:
        path = locate(name) if file is None else Path(file)
        if not path.is_file():
            raise NotComputed(f"{path}: no such file; expected {Path(needed).name}")
        source = describe(name, path, title, chosen=file is not None, proxy=proxy)
    except MissingWeights as error:
        raise NotComputed(f"needs {needed}\n{error}") from error
    except (WeightsError, OSError) as error:
        raise NotComputed(str(error)) from error
    return LoadedNetwork(lambda: build(path).to(device), source)


def load_proxy(
    metric: str, kind: str, file: str | None, device: torch.device, expected: type[Network]
) -> LoadedNetwork[Network]:
    """Builds a proxy network from a file of train.py.

    Args:
        metric: Metric whose configuration has the file.
        kind: Kind of network: sync, image, video or expression.
        file: Weight file.
        device: Device of the network.
        expected: Class of the network.

    Raises:
        NotComputed: If no file is given, or the file has another content.
    """
    if file is None:
        raise NotComputed(
            f"needs {metric}.weights=FILE: the file proxy_{kind}.safetensors written by python train.py "
            f"experiment=proxy/{kind}"
        )
    try:
        network, info = read_proxy(Path(file), kind)
    except (ValueError, OSError) as error:
        raise NotComputed(str(error)) from error
    assert isinstance(network, expected)
    title = f"proxy for {kind}, trained on {info.speakers} speakers of {info.dataset}"
    note = (
        f"{Path(file).name} is a proxy of the metric's network (trained on {info.clips} clips of "
        f"{info.speakers} speakers of {info.dataset}): compare its values only with each other"
    )
    source = Source(title, Path(file).name, sha256_of(Path(file)), official=False, note=note)
    return LoadedNetwork(lambda: network.to(device), source)


def describe(name: str, path: Path, title: str, chosen: bool, proxy: bool = False) -> Source:
    """Compares a weight file with the registry and returns its origin.

    Args:
        name: Name of the weights in the registry.
        path: Weight file.
        title: Name of the network in results.
        chosen: Whether the user has chosen the file.
        proxy: Whether the network is a proxy.
    """
    known = WEIGHTS[name].files[0]
    sha256 = sha256_of(path)
    if known.sha256 or known.git_blob:
        official = sha256 == known.sha256 or (known.git_blob is not None and git_blob_of(path) == known.git_blob)
        note = None if official else f"{path.name} is not the official {Path(known.path).name}"
    else:  # without a published hash, only the file in the registry's location counts as official
        official = not chosen
        note = f"no hash of {Path(known.path).name} is published, so it cannot be confirmed"
    if proxy:
        official, note = False, f"{title} is a proxy of the metric's network"
    return Source(title, path.name, sha256, official, note)
