"""Finds pretrained weights in ``$EMOTIVETALK_WEIGHTS``, the user's cache or the Hugging Face cache, or downloads them.

``weight_sources.py`` lists the weights. Published hashes are checked before a file is used. A file without one is
compared with the hash that the hub states when it is downloaded, and with the recorded one from then on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from encoders.download import HUB, DownloadError, address, download, is_page, published
from encoders.recorded_hashes import check_recorded
from encoders.weight_files import MissingWeights, WeightsError, WrongWeights, load_pickle, load_tensors
from encoders.weight_sources import SOURCES, WeightFile, Weights
from runtime.files import git_blob_of, sha256_of
from runtime.folders import cache_folder

PRESETS = ("tiny", "small", "paper", "metrics")
WEIGHTS: dict[str, Weights] = {weights.name: weights for weights in SOURCES}
__all__ = [
    "WEIGHTS",
    "FetchReport",
    "MissingWeights",
    "WeightsError",
    "WrongWeights",
    "fetch_preset",
    "find",
    "load_pickle",
    "load_tensors",
    "locate",
]

OFFLINE_SWITCHES = ("EMOTIVETALK_OFFLINE", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Fetched:
    """Status of one network of a preset.

    Attributes:
        name: Name of the weights.
        status: ``present``, ``fetched``, ``missing``, ``manual`` (to be downloaded by hand) or ``wrong`` (wrong hash).
        detail: Path of the weights, or instructions.
        licence: Licence of the weights.
    """

    name: str
    status: str
    detail: str
    licence: str

    @property
    def ready(self) -> bool:
        """Whether the weights can be used."""
        return self.status in ("present", "fetched")


@dataclass(frozen=True)
class FetchReport:
    """Status of every network that a preset needs."""

    preset: str
    rows: tuple[Fetched, ...]

    @property
    def complete(self) -> bool:
        """Whether the preset now runs offline."""
        return all(row.ready for row in self.rows)

    def table(self) -> str:
        """Formats one line per network, followed by instructions for the missing ones."""
        if not self.rows:
            return f"preset {self.preset} needs no weights"
        cells = [(row.name, row.status, row.licence, row.detail if row.ready else "see below") for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(3)]
        lines = [
            "  ".join([*(text.ljust(w) for text, w in zip(line, widths, strict=False)), line[3]]) for line in cells
        ]
        todo = [row for row in self.rows if not row.ready]
        lines += [f"\n{row.name}: {row.status}\n{row.detail}" for row in todo]
        return "\n".join([*lines, "", f"{len(self.rows) - len(todo)} of {len(self.rows)} ready"])


def locate(name: str) -> Path:
    """Returns the path of the weights ``name``, and downloads them first if they are missing.

    Args:
        name: Name in ``WEIGHTS``.

    Returns:
        Path of the file; for a hub model the folder of its files, for ``from_pretrained``.

    Raises:
        KeyError: If no weights have that name.
        MissingWeights: If the weights are not found and cannot be downloaded.
        WrongWeights: If a file does not have the published hash; the file is neither used nor changed.
    """
    weights = _known(name)
    return find(name) or _fetch(weights)


def model_folder(model: str, name: str, published: str, key: str) -> Path:
    """Returns the folder of a hub model for ``from_pretrained``: the published model, or a local one.

    Args:
        model: ``published``, or a folder with a model of the same format.
        name: Name of the published weights in the registry.
        published: Name of the published model in the configuration.
        key: Configuration key of ``model``, for messages.

    Raises:
        MissingWeights: If the published weights are not found and cannot be downloaded.
        ValueError: If ``model`` is neither the published name nor a folder with a model.
    """
    if model == published:
        return locate(name)
    folder = Path(model).expanduser()
    needed = ["config.json", *(file.path for file in _known(name).files if file.path.endswith(".safetensors"))]
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise ValueError(
            f"{key}: {model!r} is neither {published} nor a folder with a model: "
            f"{' and '.join(missing)} not found in {folder.absolute()}"
        )
    return folder


def find(name: str) -> Path | None:
    """Returns the path of the local weights ``name`` after checking their hashes, or None; downloads nothing.

    Raises:
        KeyError: If no weights have that name.
        WrongWeights: If a local file does not have the published hash.
    """
    weights = _known(name)
    for folder in [folder for root in roots() for folder in _folders(weights, root)] + _hub_cache(weights):
        if all((folder / file.path).is_file() for file in weights.files):
            for file in weights.files:
                _check(weights, file, folder / file.path)
            return folder if weights.folder else folder / weights.files[0].path
    return None


def roots(create: bool = True) -> list[Path]:
    """Returns the folders that are searched for weights: ``$EMOTIVETALK_WEIGHTS`` if set, then the user's cache.

    Args:
        create: Whether the user's private temporary folder is created if the cache has to be there.
    """
    chosen = os.environ.get("EMOTIVETALK_WEIGHTS")
    cache = cache_folder("weights", create)
    return [Path(os.path.expanduser(chosen)), cache] if chosen else [cache]


def offline() -> str | None:
    """Returns the environment variable that disables downloads, or None."""
    for switch in OFFLINE_SWITCHES:
        if os.environ.get(switch, "").strip().lower() in ("1", "true", "yes", "on"):
            return switch
    return None


def fetch_preset(preset: str, report: Callable[[str], object] = print) -> FetchReport:
    """Downloads all weights of a preset, so that it then runs offline.

    Args:
        preset: Preset tiny, small or paper, or ``metrics`` for the networks of evaluation.
        report: Called with each line of progress and with the final table.

    Raises:
        ValueError: If the preset is unknown.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    rows = []
    for weights in WEIGHTS.values():
        if preset not in weights.presets:
            continue
        report(f"{weights.name}: {weights.purpose}")
        try:
            found = find(weights.name)
            status, detail = ("present", str(found)) if found else ("fetched", str(_fetch(weights)))
        except MissingWeights as error:
            status, detail = "manual" if weights.manual else "missing", str(error)
        except WrongWeights as error:
            status, detail = "wrong", str(error)
        rows.append(Fetched(weights.name, status, detail, weights.licence))
    result = FetchReport(preset, tuple(rows))
    report(result.table())
    return result


def _known(name: str) -> Weights:
    try:
        return WEIGHTS[name]
    except KeyError:
        raise KeyError(f"no weights have the name {name!r}; choose one of {', '.join(WEIGHTS)}") from None


def _folders(weights: Weights, root: Path) -> list[Path]:
    """Returns the folders under ``root`` that may have the files; downloads go to the first one."""
    return [root / weights.folder] if weights.folder else [root, root / weights.name]


def _hub_cache(weights: Weights) -> list[Path]:
    """Returns the snapshot in the local Hugging Face cache if it is complete, as a list of at most one folder."""
    if not weights.repository:
        return []
    from huggingface_hub import try_to_load_from_cache

    paths = [
        try_to_load_from_cache(weights.repository, weights.hub_path(file), revision=weights.revision)
        for file in weights.files
    ]
    return [Path(str(paths[0])).parent] if all(isinstance(path, str) for path in paths) else []


def _fetch(weights: Weights) -> Path:
    """Downloads missing files into the first writable weights folder.

    Raises:
        MissingWeights: If a file cannot be downloaded.
        WrongWeights: If a downloaded file does not have the published hash.
    """
    if weights.manual:
        raise MissingWeights(_missing_text(weights, ["not downloaded: it has to be downloaded by hand"]))
    if switch := offline():
        raise MissingWeights(_missing_text(weights, [f"not downloaded: {switch} is set"]))
    root, refusals = _writable_root()
    if root is None:
        raise MissingWeights(_missing_text(weights, [f"not downloaded: {text}" for text in refusals]))
    folder = _folders(weights, root)[0]
    for file in weights.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if not target.exists():  # another process may have downloaded it while this one waited
                _download(weights, file, target)
        _check(weights, file, target)
    return folder if weights.folder else folder / weights.files[0].path


def _download(weights: Weights, file: WeightFile, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    failures: list[str] = []
    mismatch: WrongWeights | None = None
    for url in _urls(weights, file):
        try:
            _download_checked(weights, file, url, part)
        except WrongWeights as error:
            part.unlink(missing_ok=True)
            mismatch = WrongWeights(f"{error}\n  It was downloaded from {url} and has been deleted.")
        except DownloadError as error:
            failures.append(f"not downloaded: {error}")
        except OSError as error:
            raise MissingWeights(_missing_text(weights, [f"not downloaded: {part}: {error.strerror}"])) from error
        else:
            os.replace(part, target)
            return
    if mismatch:
        raise mismatch
    raise MissingWeights(_missing_text(weights, failures))


def _download_checked(weights: Weights, file: WeightFile, url: str, part: Path) -> None:
    """Downloads one file and compares it with its hash; a resumed part that differs is downloaded anew."""
    if not file.has_hash and weights.revision:
        stated = published(url, weights.revision)
        file = replace(file, size=stated.size, sha256=stated.sha256, git_blob=stated.git_blob)
    resumed = part.exists()
    download(url, part, file.size)
    try:
        _compare(weights, file, part)
    except WrongWeights:
        part.unlink()
        if not resumed:
            raise
        download(url, part, file.size)  # the resumed part may have come from another file
        _compare(weights, file, part)


def _writable_root() -> tuple[Path | None, list[str]]:
    refusals = []
    for root in roots():
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refusals.append(f"{root} cannot be created ({error.strerror})")
            continue
        if os.access(root, os.W_OK | os.X_OK):
            return root, refusals
        refusals.append(f"{root} cannot be written")
    return None, refusals


def _urls(weights: Weights, file: WeightFile) -> list[str]:
    urls = list(file.urls)
    if weights.repository:
        urls.append(f"{HUB}/{weights.repository}/resolve/{weights.revision}/{weights.hub_path(file)}")
    return [address(url) for url in urls]


def _missing_text(weights: Weights, reasons: list[str]) -> str:
    """Formats the message for missing weights: reasons, files with hashes and URLs, and the target folder."""
    root = _writable_root()[0] or roots()[0]
    folder = _folders(weights, root)[0]
    lines = [f"{weights.name} is missing ({weights.purpose}; licence: {weights.licence})"]
    lines.append("  searched: " + ", ".join(str(root) for root in roots()))
    lines += [f"  {reason}" for reason in reasons]
    for file in weights.files:
        lines.append(f"  file: {file.path} ({file.hash_text})")
        lines += [f"    from {url}" for url in _urls(weights, file)]
    if weights.manual:
        lines.append(f"  what to do: {weights.manual}")
    lines.append(f"  put it here: {folder if len(weights.files) > 1 else folder / weights.files[0].path}")
    if not weights.manual and weights.presets:
        smallest = "metrics" if "metrics" in weights.presets else weights.presets[0]  # the smallest download
        lines.append(f"  or, with internet access: python prepare.py task=weights preset={smallest}")
    return "\n".join(lines)


def _check(weights: Weights, file: WeightFile, path: Path) -> None:
    """Raises WrongWeights if the file has none of its published hashes, or has changed since it was first used."""
    if file.has_hash:
        _compare(weights, file, path)
        return
    if is_page(path):
        raise WrongWeights(f"{path}: is a web page, not {weights.name}; delete it, and it is downloaded again")
    check_recorded(path)


def _compare(weights: Weights, file: WeightFile, path: Path) -> None:
    """Raises WrongWeights if the file has another size, or none of its hashes."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise WrongWeights(
            f"{path}: is not {weights.name}: expected {file.size} bytes, found {size}\n"
            "  It was neither used nor changed; delete it, or replace it by the right file."
        )
    # If both hashes are published, one match is sufficient.
    if (file.sha256 and sha256_of(path) == file.sha256) or (file.git_blob and git_blob_of(path) == file.git_blob):
        return
    found = f"sha256 {sha256_of(path)}" if file.sha256 else f"git blob id {git_blob_of(path)}"
    raise WrongWeights(
        f"{path}: is not {weights.name}: expected {file.hash_text}, found {found}{_recognise(path)}\n"
        "  It was neither used nor changed; delete it, or replace it by the right file."
    )


def _recognise(path: Path) -> str:
    """Returns ", which is ..." if the file belongs to another registered network, else an empty string."""
    hashes = {sha256_of(path), git_blob_of(path)}
    for other in WEIGHTS.values():
        if any(file.sha256 in hashes or file.git_blob in hashes for file in other.files):
            return f", which is {other.name} ({other.purpose})"
    return ""
