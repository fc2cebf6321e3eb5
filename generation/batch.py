"""Turns a configuration into video cases: one from the command line, or one for each row of a CSV file."""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from configs.emotion import EmotionConfig
from configs.errors import ConfigError
from configs.fields import constraints
from configs.generation import GenerateConfig, GuidanceConfig, LipsConfig, MotionConfig
from configs.rules import check_interval, check_overlap, parse_part
from lightning_modules.emotion.emotion_table import EmotionError
from lightning_modules.emotion.sources import check_emotion

OTHER_ENDINGS = (".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".wmv", ".png", ".wav")
MAX_NAME_BYTES = 180  # bytes; file systems allow 255, and temporary files append to the name
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class VideoCase:
    """Inputs, settings and output file of one video.

    Attributes:
        portrait: Image file of the face to animate, or a video of which a frame is animated.
        speech: Media file with the speech.
        output: Output file, ``.mp4``.
        emotion: Emotion source.
        extend: Extension of a driving video that is shorter than the speech: pingpong, hold or error.
        drive: What is animated: both, lips or expression.
        steps: DDIM steps; None for the number the network was trained for.
        seed: Seed of all noise.
        window: Frames of a sampling window; None for the training's.
        overlap: Frames shared by adjacent windows; None for the training's, or a fifth of a window that is not the
            training's.
        paste_back: Whether the generated face is pasted back into the whole portrait.
        portrait_time: Time of the frame of a video that is animated, seconds; None for the first one.
        decode_frames: Most frames that the codec decodes together; None for its own number.
        guidance: Guidance of lips and expression; None in it for that of the training.
        lips: Strength of the lip movements.
        motion: Movements that a user asked for.
    """

    portrait: Path
    speech: Path
    output: Path
    emotion: EmotionConfig = field(default_factory=EmotionConfig)
    extend: str = "pingpong"
    drive: str = "both"
    steps: int | None = None
    seed: int = 0
    window: int | None = None
    overlap: int | None = None
    paste_back: bool = False
    portrait_time: float | None = None
    decode_frames: int | None = None
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    lips: LipsConfig = field(default_factory=LipsConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)

    def inputs(self) -> dict[str, Path]:
        """Returns the input files by their keys."""
        files = {"portrait": self.portrait, "speech": self.speech}
        for key in ("image", "video"):
            if (file := getattr(self.emotion, key)) is not None:
                files[f"emotion.{key}"] = Path(file)
        return files

    def settings(self) -> dict[str, Any]:
        """Returns every setting that the video depends on; input files and weights are not included."""
        emotion = {name: getattr(self.emotion, name) for name in ("label", "level", "text", "strength")}
        values = asdict(self)
        return {
            "emotion": {name: value for name, value in emotion.items() if value is not None},
            **{name: values[name] for name in (*CHOSEN, "steps", "seed", "window", "overlap", "paste_back")},
            **{name: values[name] for name in ("portrait_time", "decode_frames") if values[name] is not None},
            # Records of earlier versions lack these keys, and are equal at the defaults.
            **{name: chosen for name in PARTS if (chosen := _chosen(getattr(self, name)))},
        }


def _chosen(part: Any) -> dict[str, Any]:
    """Values of a part of the configuration that are not its defaults."""
    usual = asdict(type(part)())
    return {name: value for name, value in asdict(part).items() if value != usual[name]}


CHOSEN = ("extend", "drive")
PARTS: dict[str, Any] = {"guidance": GuidanceConfig, "lips": LipsConfig, "motion": MotionConfig}
CONSTRAINTS = constraints(GenerateConfig)


def cases_of(config: GenerateConfig) -> list[VideoCase]:
    """Returns the cases of a configuration, limited to its ``part``.

    Raises:
        ConfigError: If the CSV file cannot be read or a row is invalid (the message names the line), settings
            contradict each other, two cases have the same output, or an output would overwrite an input.
    """
    base = _plain(config)
    if config.batch is None:
        cases = [_case(base, "")]
    else:
        cases = [_case({**base, **row}, f"{config.batch}, line {line}: ") for line, row in _rows(Path(config.batch))]
        if Path(config.output or "").suffix.lower() == ".mp4":
            raise ConfigError(f"output={config.output}: names one video, but batch= makes several; give a folder")
        if not config.allow_outside:
            _require_inside(cases, Path(config.output or ""))
    _require_distinct_outputs(cases)
    index, parts = parse_part(config.part)
    return cases[index::parts]


def _plain(config: GenerateConfig) -> dict[str, Any]:
    """Returns the command line's values by the keys that a row may have, and the output folder."""
    emotion = {f"emotion.{name}": getattr(config.emotion, name) for name in EMOTION_KEYS}
    values = {name: getattr(config, name) for name in ROW_KEYS if "." not in name and name != "output"}
    for part in PARTS:
        values |= {f"{part}.{name}": value for name, value in asdict(getattr(config, part)).items()}
    named = config.output if config.batch is None else None
    return {**values, **emotion, "output": named, "folder": None if config.batch is None else config.output}


def _case(values: Mapping[str, Any], where: str) -> VideoCase:
    """Validates the values and returns their case. ``where`` is the prefix of error messages."""
    try:
        for key in ("portrait", "speech"):
            if not values[key]:
                raise ConfigError(f"{key} is missing")
        for key, value in values.items():
            if key in CONSTRAINTS and value is not None:
                CONSTRAINTS[key].require(key, value)
        check_overlap(values["window"], values["overlap"])
        check_interval(values["guidance.low"], values["guidance.high"])
        emotion = EmotionConfig(**{name: values[f"emotion.{name}"] for name in EMOTION_KEYS if name != "extend"})
        check_emotion(emotion)
    except (ConfigError, EmotionError) as error:
        raise ConfigError(f"{where}{error}") from error
    case = VideoCase(
        portrait=Path(values["portrait"]),
        speech=Path(values["speech"]),
        output=Path(),
        emotion=emotion,
        extend=values["emotion.extend"],
        **{name: values[name] for name in ROW_KEYS if "." not in name and name not in (*FILES, "output")},
        **{
            part: kind(**{one.name: values[f"{part}.{one.name}"] for one in fields(kind)})
            for part, kind in PARTS.items()
        },
    )
    output = Path(values["folder"] or "", values["output"] or "")
    if output.suffix.lower() in OTHER_ENDINGS:
        raise ConfigError(f"{where}output={output}: expected a file that ends in .mp4, or a folder")
    return replace(case, output=output if output.suffix.lower() == ".mp4" else output / f"{name_of(case)}.mp4")


def name_of(case: VideoCase) -> str:
    """Returns a file name built from inputs and settings: equal cases have equal names on every machine."""
    emotion = case.emotion
    parts = [case.portrait.stem, case.speech.stem]
    if emotion.label is not None:
        parts.append(f"{emotion.label}{emotion.level or ''}")
    if emotion.text is not None:
        parts.append(re.sub(r"\W+", "-", emotion.text)[:40].strip("-"))
    parts += [Path(file).stem for file in (emotion.image, emotion.video) if file is not None]
    if emotion.strength != 1:
        parts.append(f"x{emotion.strength:g}")
    if case.drive != "both":
        parts.append(case.drive)
    if case.lips.strength != 1:
        parts.append(f"lips-x{case.lips.strength:g}")
    guided = {name: f"{value:g}" for name, value in _chosen(case.guidance).items()}
    if guided:
        parts.append("-".join(["guided", *(f"{name}{value}" for name, value in guided.items())]))
    if case.portrait_time:
        parts.append(f"at{case.portrait_time:g}")
    if case.motion.blinks is not None:
        parts.append(f"blinks{case.motion.blinks:g}")
    if case.motion.head != 1:
        parts.append(f"head-x{case.motion.head:g}")
    if case.seed:
        parts.append(f"seed{case.seed}")
    name = "_".join(parts)
    stored = name.encode(errors="replace")  # the name of an input need not be valid UTF-8
    if len(stored) > MAX_NAME_BYTES:
        digest = hashlib.sha256(stored).hexdigest()[:8]
        stored = stored[: MAX_NAME_BYTES - 9] + f"_{digest}".encode()
    return stored.decode(errors="ignore")


def _require_inside(cases: list[VideoCase], folder: Path) -> None:
    """Checks that every video of a batch lies in the folder ``output``, also when links are followed."""
    root = os.path.realpath(folder)
    for number, case in enumerate(cases, 1):
        if os.path.commonpath([root, os.path.realpath(case.output.parent)]) != root or case.output.is_symlink():
            raise ConfigError(
                f"row {number}: output={case.output} is outside of the folder {root}; choose a name inside, or set "
                "allow_outside=true if you trust the batch file"
            )


def _require_distinct_outputs(cases: list[VideoCase]) -> None:
    """Checks that no two cases write one file, also on disks that ignore case and spelling of accents."""
    made: dict[str, int] = {}
    read = {os.path.abspath(file): key for case in cases for key, file in case.inputs().items()}
    for number, case in enumerate(cases, 1):
        output = os.path.abspath(case.output)
        if output in read:
            raise ConfigError(
                f"output={case.output}: would overwrite the {read[output]} of a video; choose another output"
            )
        name = unicodedata.normalize("NFC", os.path.splitext(output)[0]).casefold()  # x.mp4 and x.MP4 share x.json
        if name in made:
            other = cases[made[name] - 1].output
            both = f"{case.output}" if other == case.output else f"{other} and {case.output}, or their records"
            clash = "" if other == case.output else ", which are one file on some disks"
            raise ConfigError(
                f"rows {made[name]} and {number} would both write {both}{clash}; give each its own output"
            )
        made[name] = number


def _integer(value: str) -> int:
    return int(value)


def _boolean(value: str) -> bool:
    return TRUTHS[value.lower()]


EMOTION_KEYS = ("label", "level", "text", "image", "video", "strength", "extend")
# column -> parser of its cells
ROW_KEYS: dict[str, Any] = {
    "portrait": os.path.expanduser,
    "speech": os.path.expanduser,
    "output": os.path.expanduser,
    "drive": str,
    "steps": _integer,
    "seed": _integer,
    "window": _integer,
    "overlap": _integer,
    "paste_back": _boolean,
    "portrait_time": float,
    "decode_frames": _integer,
    "guidance.lips": float,
    "guidance.expression": float,
    "guidance.low": float,
    "guidance.high": float,
    "lips.strength": float,
    "emotion.label": str,
    "emotion.level": _integer,
    "emotion.text": str,
    "emotion.image": os.path.expanduser,
    "emotion.video": os.path.expanduser,
    "emotion.strength": float,
    "emotion.extend": str,
    "motion.blinks": float,
    "motion.head": float,
}


FILES = ("portrait", "speech", "emotion.image", "emotion.video")  # relative to the folder of the CSV file


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Returns line number and values of every row; empty cells are left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"batch={path}: cannot be read; expected a CSV file in UTF-8 ({error})") from error
    for name in header:
        if name not in ROW_KEYS:
            near = difflib.get_close_matches(name, ROW_KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(ROW_KEYS)}"
            raise ConfigError(f"batch={path}: unknown column {name!r}; {hint}")
    if len(set(header)) < len(header):
        raise ConfigError(f"batch={path}: a column name occurs twice in {', '.join(header)}")
    if not lines:
        raise ConfigError(f"batch={path}: has no rows; expected at least one below the column names")
    rows = [(number, _row(header, line, f"{path}, line {number}")) for number, line in lines]
    for _, row in rows:
        row.update({name: str(path.parent / row[name]) for name in FILES if name in row})
    return rows


def _row(header: list[str], line: list[str], where: str) -> dict[str, Any]:
    if len(line) > len(header):
        raise ConfigError(f"{where}: {len(line)} cells for {len(header)} columns; quote cells that hold a comma")
    values = {}
    for name, cell in zip(header, line, strict=False):
        if cell.strip():
            try:
                values[name] = ROW_KEYS[name](cell.strip())
            except (ValueError, KeyError):
                wanted = {_integer: "a whole number", _boolean: "true or false", float: "a number"}[ROW_KEYS[name]]
                raise ConfigError(f"{where}: {name}={cell.strip()}: expected {wanted}") from None
    return values
