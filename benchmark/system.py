"""Description of a published system as data: its command, where it writes the video, how the video is normalised.

Every system has a YAML file in ``benchmark/systems``, or in ``systems/`` of a lab's folder. See ``docs/systems.md`` for
how to add one.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.lab import lab_folders
from runtime.errors import UserError
from runtime.yaml_text import check_yaml

FOLDER = Path(__file__).parent / "systems"
KINDS = ("command", "reference", "folder")
DRIVEN = ("A", "A+V", "")
FRAMINGS = ("whole", "head", "pcavs")
# Placeholders that the run fills in. All others are inputs that the case must provide.
GIVEN = ("python", "job", "id", "seed", "settings")
INPUTS = ("portrait", "speech", "driving_video", "driving_faces", "style_mat", "pose_mat", "phonemes", "ethd")


@dataclass
class Portrait:
    """Portrait that a system expects.

    Attributes:
        framing: whole (unchanged), head (a square around the head), pcavs (PC-AVS alignment, 224 x 224).
        size: Side in pixels; null keeps it.
        crops_itself: Whether the system cuts this framing itself; it then gets the uncut portrait.
    """

    framing: str = "head"
    size: int | None = None
    crops_itself: bool = False


@dataclass
class Speech:
    """Sound that a system expects, in addition to 16 kHz mono WAV.

    Attributes:
        longer_than: Sound of at most this duration is padded with silence, seconds.
        no_multiple_of: Sound that lasts a multiple of this, within a frame, is padded with silence, seconds.
        padding: Additional silence, seconds; its frames are cut off afterwards.
    """

    longer_than: float | None = None
    no_multiple_of: float | None = None
    padding: float = 0.2


@dataclass
class Output:
    """Video that a system writes.

    Attributes:
        path: Path of the video; ``*`` matches generated names, if only one file matches.
        exclude: Endings of file names that are not the result.
        fps: Expected frame rate; a video of another rate is refused. Null accepts any.
        panel: (x, y, width, height) of the result in each frame; null for the whole frame.
        offset: Its frame k belongs to frame k + offset of the sound and the real video, frames at 25 fps.
    """

    path: str = ""
    exclude: list[str] = field(default_factory=list)
    fps: float | None = None
    panel: list[int] | None = None
    offset: int = 0


@dataclass
class Settings:
    """YAML file that a system reads, derived from one of its repository.

    Attributes:
        template: Path in the repository.
        values: Keys that get other values; placeholders are replaced in keys and values.
    """

    template: str = MISSING
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Patch:
    """Lines that are removed from the job's copy of a file.

    Attributes:
        file: Path in the repository.
        first: Text that occurs only in the first of the lines.
        last: Text that occurs only in the last of the lines.
        why: Effect of the lines.
    """

    file: str = MISSING
    first: str = MISSING
    last: str = MISSING
    why: str = MISSING


@dataclass
class Symptom:
    """Meaning of a text in the program's output.

    Attributes:
        text: Text to search for.
        means: Reason to report.
        fails: Whether the clip fails even if there is a video.
    """

    text: str = MISSING
    means: str = MISSING
    fails: bool = False


@dataclass
class System:
    """Description of one system.

    Attributes:
        name: Name: the file name without extension.
        title: Name in tables.
        driven: A (speech), A+V (speech and a video; also the ground truth), or empty.
        kind: command (a program is run), reference (the real video), folder (finished videos).
        repository: owner/name on GitHub, or empty for this project.
        commit: Commit that the description was checked with.
        licence: Licence of code and weights.
        weights: Source of the weights.
        environment: Environment that the system was written for.
        entry: File by which a checkout of the repository is recognised.
        packages: Modules that its interpreter must be able to import.
        requires: Files that must exist in the repository.
        command: Program and arguments; ``{...}`` are placeholders.
        devices: Additional arguments for cuda and cpu; a device that is not listed is not supported.
        variables: Environment variables.
        writes: Top-level names in the repository that it writes to: folders, or files if the name has an extension.
            Each job gets its own empty ones.
        patches: Lines that are removed.
        settings: YAML file that it reads.
        portrait: Portrait that it expects.
        speech: Sound that it expects.
        mat_rate: Rows per second of its 3DMM files.
        output: Video that it writes.
        symptoms: Meanings of its messages.
        defects: Notes for readers of its results.
    """

    name: str = MISSING
    title: str = MISSING
    driven: str = MISSING
    kind: str = "command"
    repository: str = ""
    commit: str = ""
    licence: str = ""
    weights: str = ""
    environment: str = ""
    entry: str = ""
    packages: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    devices: dict[str, list[str]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    settings: Settings | None = None
    portrait: Portrait = field(default_factory=Portrait)
    speech: Speech = field(default_factory=Speech)
    mat_rate: float | None = None
    output: Output = field(default_factory=Output)
    symptoms: list[Symptom] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def needs(self) -> list[str]:
        """Returns the inputs that its command and settings name."""
        texts = [*self.command, *(text for extra in self.devices.values() for text in extra)]
        texts += list(_texts(self.settings.values)) if self.settings else []
        named = {name for text in texts for name in placeholders(text)}
        return [name for name in INPUTS if name in named]


def described() -> dict[str, Path]:
    """Returns name -> file of every system of the project and of ``systems/`` in folders given by ``--config-dir``."""
    folders = [*(lab / "systems" for lab in lab_folders()), FOLDER]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_system(name: str) -> System:
    """Reads the description of a system by name, or from the path of a YAML file.

    Raises:
        UserError: If there is none, or the description is invalid; the message names file and key.
    """
    there = described()
    path = there.get(name, Path(name))
    if name not in there and path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(name, there, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"system={name}: {hint}expected one of {', '.join(sorted(there))}, or the path of a .yaml file")
    try:
        check_yaml(path)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"system={name}: no such file") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found {type(content).__name__}")
    system = _typed({"name": path.stem, **content}, path)
    _check(system, path)
    return system


def _typed(content: dict[str, Any], path: Path) -> System:
    for key in content:
        known = [one.name for one in fields(System)]
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise UserError(f"{path}: unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else "remove it"))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(System), OmegaConf.create(_literal(content)))
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise UserError(f"{path}: no value for {', '.join(sorted(missing))}")
        system = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        detail = str(error).splitlines()[0]
        raise UserError(f"{path}: {getattr(error, 'full_key', None) or 'content'}: {detail}") from error
    assert isinstance(system, System)
    return system


def _literal(value: Any) -> Any:
    """Escapes interpolations, which would put variables of the environment into titles, commands and tables."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _check(system: System, path: Path) -> None:
    """Checks values beyond their types.

    Raises:
        UserError: If a value is impossible; the message names the key.
    """
    for key, value, allowed in (
        ("kind", system.kind, KINDS),
        ("driven", system.driven, DRIVEN),
        ("portrait.framing", system.portrait.framing, FRAMINGS),
    ):
        if value not in allowed:
            raise UserError(f"{path}: {key}: {value!r}: expected one of {', '.join(map(repr, allowed))}")
    panel = system.output.panel
    if panel is not None and (len(panel) != 4 or min(panel[:2]) < 0 or min(panel[2:]) < 1):
        raise UserError(f"{path}: output.panel: {panel}: expected [x, y, width, height] in pixels")
    if system.kind != "command":
        return
    for key in ("command", "entry", "devices"):
        if not getattr(system, key):
            raise UserError(f"{path}: {key}: is empty; required for kind command")
    if not system.output.path:
        raise UserError(f"{path}: output.path: is empty; give the path of the video")
    if system.output.path.startswith(("/", "..")):
        raise UserError(
            f"{path}: output.path: {system.output.path}: expected a path in the repository or under {{job}}"
        )
    for name in [*system.writes, *(patch.file for patch in system.patches)]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path}: {name}: expected a path inside the repository")
    for name in system.writes:
        if len(Path(name).parts) != 1:
            raise UserError(f"{path}: writes: {name}: expected a top-level name, e.g. {Path(name).parts[0]}")
    _check_placeholders(system, path)


def _check_placeholders(system: System, path: Path) -> None:
    texts = [*system.command, system.output.path, *system.variables.values()]
    texts += [text for extra in system.devices.values() for text in extra]
    texts += list(_texts(system.settings.values)) if system.settings else []
    for text in texts:
        for name in placeholders(text):
            if name not in (*GIVEN, *INPUTS):
                known = ", ".join((*GIVEN, *INPUTS))
                raise UserError(f"{path}: {text!r}: unknown placeholder {{{name}}}; expected one of {known}")
    if {"style_mat", "pose_mat"} & set(system.needs()) and not system.mat_rate:
        raise UserError(f"{path}: mat_rate: is missing; give the rows per second of its .mat files")


def placeholders(text: str) -> list[str]:
    """Returns the names between braces.

    Raises:
        UserError: If braces do not match.
    """
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise UserError(f"{text!r}: {error}") from error


def fill(value: Any, given: dict[str, str]) -> Any:
    """Replaces placeholders in a text, or in all texts of lists and mappings, including keys."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda match: given[match.group(1)], value)
    if isinstance(value, dict):
        return {fill(key, given): fill(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, given) for item in value]
    return value


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
