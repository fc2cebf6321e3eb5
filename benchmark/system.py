"""A published system as data: how it is called, where its video lands, how that becomes a clip one can compare.

One YAML file per system in ``benchmark/systems``, or in ``systems/`` of a lab's folder; ``docs/systems.md`` says how
to add one.
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

FOLDER = Path(__file__).parent / "systems"
KINDS = ("command", "reference", "folder")
DRIVEN = ("A", "A+V", "")
FRAMINGS = ("whole", "head", "pcavs")
# What the run itself fills in; everything else between braces is an input that a case must be able to give.
GIVEN = ("python", "job", "id", "seed", "settings")
INPUTS = ("portrait", "speech", "driving_video", "driving_faces", "style_mat", "pose_mat", "phonemes", "ethd")


@dataclass
class Portrait:
    """What the system's portrait must be.

    Attributes:
        framing: whole (as it is), head (a square about the head), pcavs (PC-AVS alignment, 224 x 224).
        size: pixels of each side; null leaves it.
        crops_itself: the system cuts this framing out of the portrait as we would, and gets the portrait as it is.
    """

    framing: str = "head"
    size: int | None = None
    crops_itself: bool = False


@dataclass
class Speech:
    """What the system's sound must be, beyond 16 kHz mono wav.

    Attributes:
        longer_than: shorter or equally long sound is padded with silence, seconds.
        no_multiple_of: so is sound that lasts a whole multiple of this, to the frame, seconds.
        padding: silence added beyond that, seconds; the frames it makes are cut off again.
    """

    longer_than: float | None = None
    no_multiple_of: float | None = None
    padding: float = 0.2


@dataclass
class Output:
    """The video the system writes.

    Attributes:
        path: where it lands; ``*`` may stand for what the system makes up, if only one file matches.
        exclude: endings of file names that are not the result.
        fps: the frame rate it is made at; a file of another rate is refused. Null takes any.
        panel: x, y, width, height of the part of each frame that holds the result; null for all.
        offset: its frame k belongs to frame k + offset of the sound and the real video, frames at 25 fps.
    """

    path: str = ""
    exclude: list[str] = field(default_factory=list)
    fps: float | None = None
    panel: list[int] | None = None
    offset: int = 0


@dataclass
class Settings:
    """A YAML file the system reads, made from one of its own.

    Attributes:
        template: path in the repository.
        values: keys that get other values; placeholders work in keys and values.
    """

    template: str = MISSING
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Patch:
    """Lines left out of the job's own copy of a file.

    Attributes:
        file: path in the repository.
        first: a text that only the first of these lines holds.
        last: a text that only the last of them holds.
        why: what they would do.
    """

    file: str = MISSING
    first: str = MISSING
    last: str = MISSING
    why: str = MISSING


@dataclass
class Symptom:
    """What a text in the program's output means, for a person.

    Attributes:
        text: what to look for.
        means: the reason to report.
        fails: the video does not count even if there is one.
    """

    text: str = MISSING
    means: str = MISSING
    fails: bool = False


@dataclass
class System:
    """One system.

    Attributes:
        name: of its file.
        title: in tables.
        driven: A (speech) or A+V (speech and a video), where tables also put the ground truth; or nothing.
        kind: command (a program is run), reference (the real video), folder (somebody's finished videos).
        repository: owner/name, or nothing for this one.
        commit: the one the description was checked against.
        licence: of code and weights.
        weights: where they come from.
        environment: what it was made for.
        entry: a file that shows a folder is its repository.
        packages: modules its interpreter must be able to import.
        requires: files that must lie in the repository.
        command: the program and its arguments; ``{...}`` are placeholders.
        devices: further arguments on cuda and cpu; a device that is not there cannot be used.
        variables: environment variables it needs.
        writes: top-level names in the repository it writes to: folders, and files where the name has an ending; each
            job gets its own, empty.
        patches: lines left out.
        settings: a YAML file it reads.
        portrait: what its portrait must be.
        speech: what its sound must be.
        mat_rate: rows per second of its 3DMM files.
        output: the video it writes.
        symptoms: what its messages mean.
        defects: what a reader of its numbers has to know.
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
        """The inputs its command and its settings name."""
        texts = [*self.command, *(text for extra in self.devices.values() for text in extra)]
        texts += list(_texts(self.settings.values)) if self.settings else []
        named = {name for text in texts for name in placeholders(text)}
        return [name for name in INPUTS if name in named]


def described() -> dict[str, Path]:
    """Name -> file of every system: the project's, and those in ``systems/`` of a folder named by ``--config-dir``."""
    folders = [*(lab / "systems" for lab in lab_folders()), FOLDER]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_system(name: str) -> System:
    """A system by its name, or by the path of a YAML file of one's own.

    Raises:
        UserError: if there is none, or its description is wrong; names the file and the key.
    """
    there = described()
    path = there.get(name, Path(name))
    if name not in there and path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(name, there, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(
            f"system={name}: {hint}there are {', '.join(sorted(there))}, or the path of a .yaml of your own"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"system={name}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
            raise UserError(
                f"{path}: there is no key {key!r}; " + (f"did you mean {near[0]}?" if near else "remove it")
            )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(System), OmegaConf.create(content))
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise UserError(f"{path}: no value for {', '.join(sorted(missing))}")
        system = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: {getattr(error, 'full_key', None) or 'content'}: {message}") from error
    assert isinstance(system, System)
    return system


def _check(system: System, path: Path) -> None:
    """What no type can say.

    Raises:
        UserError: naming the key.
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
            raise UserError(f"{path}: {key}: is empty; a system of kind command needs it")
    if not system.output.path:
        raise UserError(f"{path}: output.path: is empty; name where the video lands")
    if system.output.path.startswith(("/", "..")):
        raise UserError(f"{path}: output.path: {system.output.path}: expected it in the repository or under {{job}}")
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
                raise UserError(f"{path}: {text!r}: there is no {{{name}}}; there are {', '.join((*GIVEN, *INPUTS))}")
    if {"style_mat", "pose_mat"} & set(system.needs()) and not system.mat_rate:
        raise UserError(f"{path}: mat_rate: is missing; say how many rows per second its .mat files hold")


def placeholders(text: str) -> list[str]:
    """Names between braces.

    Raises:
        UserError: if braces do not match.
    """
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise UserError(f"{text!r}: {error}") from error


def fill(value: Any, given: dict[str, str]) -> Any:
    """Replaces placeholders in a text, or in all texts of lists and mappings, keys too."""
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
