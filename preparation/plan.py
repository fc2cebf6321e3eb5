"""Plan of an output folder: assigns clips to shards before anything is encoded.

The plan depends only on the sources and the settings, so any number of parts, workers and restarts writes the same
shards. Long videos are cut into equal pieces. Clips are sorted by a hash of their keys, so that a shard holds many
speakers.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs.preparation import PrepareConfig
from datamodules.schema import PORTRAIT_SIZE, PORTRAITS, SAMPLES_PER_FRAME, Dimensions, ShardError
from datamodules.splits import assign_splits
from encoders.protocols import FPS
from media import MediaError
from preparation.clip_source import ClipSource, Reason, Rejected, media_problem
from preparation.header_lengths import HeaderLengths
from runtime.files import write_whole
from runtime.json_text import parse_json
from runtime.platforms import usable_cores

PLAN_SCHEMA = 1
PARTS_FOLDER = "parts"
PLAN_NAME = "plan.json"
BATCH = 64  # files whose headers are read in one process
HEADER_ERROR = 0.1  # seconds; largest error of a length by the header
PIECE = "---"  # separates key and piece number; no key of a whole clip contains it, unlike "_" (talk.mp4, talk_000.mp4)


@dataclass(frozen=True)
class PlannedShard:
    """File name and clips of one shard, in writing order."""

    name: str
    clips: tuple[ClipSource, ...]


@dataclass(frozen=True)
class Plan:
    """All shards of an output folder.

    Attributes:
        settings: Settings that the bytes of the shards depend on.
        found: Keys of the clips before long ones were cut.
        shards: Planned shards.
        frames: Clip key -> estimated number of frames, for the progress bar.
    """

    settings: dict[str, Any]
    found: tuple[str, ...]
    shards: tuple[PlannedShard, ...]
    frames: dict[str, int]

    @property
    def problems(self) -> dict[str, Reason]:
        """Key -> reason of the clips that cannot be prepared."""
        return {clip.key: clip.problem for shard in self.shards for clip in shard.clips if clip.problem is not None}

    def part(self, index: int, parts: int) -> tuple[PlannedShard, ...]:
        """Returns the shards of part ``index`` (from 0) of ``parts``: every ``parts``-th one."""
        return self.shards[index::parts]


def settings_of(config: PrepareConfig) -> dict[str, Any]:
    """Returns the settings that the bytes of the shards depend on, as a nested dictionary."""
    settings = asdict(config)
    for key in ("task", "source", "output", "part", "workers", "device", "max_rejected", "clip_timeout",
                "devices", "networks", "select", "retry"):  # fmt: skip
        del settings[key]
    if config.precision == "float32":  # as outputs that were begun without these settings
        del settings["precision"], settings["latent_tolerance"]
    if not config.dataset.known:
        del settings["dataset"]["known"]
    if config.store_audio:
        del settings["store_audio"]
    if config.task == "encode":
        settings["select"] = " ".join(config.select.split())
    else:
        del settings["audio"]["correct_lag"]
    return settings


def bytes_per_frame(dimensions: Dimensions, audio: bool = True) -> int:
    """Estimates the stored size of one frame, bytes: float16 latent and audio, float32 motion, FLAC at half of PCM.

    Args:
        dimensions: Array sizes.
        audio: Whether audio features are stored.
    """
    latent = dimensions.latent_channels * dimensions.latent_size**2 * 2
    features = dimensions.audio_layers * dimensions.audio_width * 2 if audio else 0
    motion = (dimensions.lip_width + dimensions.expression_width) * 4
    return latent + features + motion + SAMPLES_PER_FRAME


def make_plan(
    config: PrepareConfig,
    clips: Sequence[ClipSource],
    dimensions: Dimensions,
    on_probed: Callable[[], None] = lambda: None,
    lengths: HeaderLengths | None = None,
    first_shard: int = 0,
) -> Plan:
    """Cuts long clips, estimates sizes and fills shards of about ``config.shard_bytes``.

    Args:
        config: Configuration of the run.
        clips: Clips of the source, with unique keys.
        dimensions: Array sizes that the encoders announce.
        on_probed: Called once per clip, for a progress bar.
        lengths: Lengths of the videos that are known.
        first_shard: Number of the first shard.
    """
    known = lengths or HeaderLengths()
    pieces = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        batches = [clips[first : first + BATCH] for first in range(0, len(clips), BATCH)]
        for cut in pool.map(lambda batch: _cut_all(batch, config.max_seconds, known), batches):
            for found in cut:
                pieces.extend(found)
                on_probed()
    if config.dataset.split == "time":  # of the pieces, which only exist now
        whole = {piece.key: piece.speaker for piece, _ in pieces if piece.problem is None}
        sides = assign_splits(config.dataset.name, "time", whole)
        pieces = [(replace(piece, split=sides.get(piece.key, piece.split)), seconds) for piece, seconds in pieces]
    pieces.sort(key=lambda piece: hashlib.sha256(piece[0].key.encode()).digest())
    fixed = PORTRAITS * PORTRAIT_SIZE**2 * 3
    shards: list[list[ClipSource]] = [[]]
    filled = 0
    for clip, seconds in pieces:
        size = fixed + math.ceil(seconds * FPS) * bytes_per_frame(dimensions, config.store_audio)
        if shards[-1] and filled + size > config.shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(clip)
        filled += size
    return Plan(
        settings=settings_of(config),
        found=tuple(clip.key for clip in clips),
        shards=tuple(
            PlannedShard(f"{config.dataset.name}-{number:05d}.tar", tuple(members))
            for number, members in enumerate(shards, first_shard)
        ),
        frames={clip.key: math.ceil(seconds * FPS) for clip, seconds in pieces},
    )


def extended(
    plan: Plan,
    config: PrepareConfig,
    clips: Sequence[ClipSource],
    dimensions: Dimensions,
    on_probed: Callable[[], None] = lambda: None,
    lengths: HeaderLengths | None = None,
) -> Plan:
    """Adds shards for the clips that a plan does not have, and drops clips that are gone. Other clips stay as they are.

    Args:
        plan: Plan of the output.
        config: Configuration of the run, with the settings of the plan.
        clips: All clips of the source.
        dimensions: Array sizes that the encoders announce.
        on_probed: Called once per new clip, for a progress bar.
        lengths: Lengths of the videos that are known.
    """
    before = set(plan.found)
    gone = before - {clip.key for clip in clips}
    new = [clip for clip in clips if clip.key not in before]
    kept = Plan(
        plan.settings,
        tuple(key for key in plan.found if key not in gone),
        tuple(
            replace(shard, clips=tuple(clip for clip in shard.clips if clip.key not in gone)) for shard in plan.shards
        ),
        {key: frames for key, frames in plan.frames.items() if key not in gone},
    )
    if not new:
        return kept
    more = make_plan(config, new, dimensions, on_probed, lengths, first_shard=len(plan.shards))
    return Plan(kept.settings, (*kept.found, *more.found), (*kept.shards, *more.shards), kept.frames | more.frames)


def has_new_clips(plan: Plan, config: PrepareConfig, clips: Sequence[ClipSource]) -> bool:
    """Whether clips were added or removed so that the plan can be extended.

    Only clips with a problem may be gone, of which no shard has anything: a row of a list that was mended, a broken
    link that was removed. False for split ``time``, which depends on all clips of a speaker.
    """
    before, now = set(plan.found), {clip.key for clip in clips}
    return before != now and before - now <= plan.problems.keys() and config.dataset.split != "time"


def _cut_all(
    clips: Sequence[ClipSource], max_seconds: float, known: HeaderLengths
) -> list[list[tuple[ClipSource, float]]]:
    """Cuts clips by the headers of their files. Where a tenth of a second decides, all packets of a file are read."""
    lengths = known.by_header([clip.path.absolute() for clip in clips if clip.problem is None])
    return [_cut(clip, max_seconds, known, lengths.get(clip.path.absolute())) for clip in clips]


def _is_clear(clip: ClipSource, duration: float, max_seconds: float) -> bool:
    """Whether a length by the header is exact enough to cut the clip as by its exact length."""
    end = duration if clip.end is None else clip.end
    few, many = (_pieces(end + change - clip.start, max_seconds) for change in (-HEADER_ERROR, HEADER_ERROR))
    inside = clip.start < duration - HEADER_ERROR and end <= duration - (0 if clip.end is None else HEADER_ERROR)
    return inside and (few == many or clip.end is not None)


def _pieces(seconds: float, max_seconds: float) -> int:
    """Number of pieces of a clip; counted in frames, so that 20.001 s is not two clips."""
    return math.ceil(round(seconds * FPS) / (max_seconds * FPS))


def _cut(
    clip: ClipSource, max_seconds: float, known: HeaderLengths, header: float | None = None
) -> list[tuple[ClipSource, float]]:
    """Cuts a clip into (piece, seconds) of at most ``max_seconds``; a file that cannot be read stays one piece.

    Args:
        clip: The clip.
        max_seconds: Longest piece, seconds.
        known: Lengths that are known.
        header: Length of the video by its header, seconds; None to read all packets.
    """
    if clip.problem is not None:
        return [(clip, 0.0)]
    try:
        clear = header is not None and _is_clear(clip, header, max_seconds)
        duration = header if clear and header is not None else known.exact(clip.path.absolute())
    except MediaError as error:
        why = media_problem(clip, error)
        return [(replace(clip, problem=why.reason, problem_detail=why.detail), 0.0)]
    try:
        clip = replace(clip, end=clip.end_in(duration))
    except Rejected as why:
        return [(replace(clip, problem=why.reason, problem_detail=why.detail), 0.0)]
    end = duration if clip.end is None else clip.end
    seconds = end - clip.start
    pieces = _pieces(seconds, max_seconds)
    if pieces <= 1:
        return [(clip, seconds)]
    marks = [clip.start + round(seconds * FPS * piece / pieces) / FPS for piece in range(pieces)]
    ends: list[float | None] = [*marks[1:], clip.end]
    return [
        (
            replace(clip, key=f"{clip.key}{PIECE}{piece:03d}", name=f"{clip.name}[{piece}]", start=start, end=stop),
            (end if stop is None else stop) - start,
        )
        for piece, (start, stop) in enumerate(zip(marks, ends, strict=True))
    ]


def read_plan(output: Path) -> Plan | None:
    """Returns the plan of an output folder, or None where there is none yet.

    Raises:
        ShardError: If the file is damaged or from a newer version.
    """
    path = output / PARTS_FOLDER / PLAN_NAME
    if not path.exists():
        return None
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        if raw["schema"] > PLAN_SCHEMA:
            raise ShardError(f"{path}: written by a newer version (plan schema {raw['schema']}); update emotivetalk")
        return Plan(
            settings=raw["settings"],
            found=tuple(raw["found"]),
            shards=tuple(
                PlannedShard(shard["name"], tuple(_clip_from_json(clip) for clip in shard["clips"]))
                for shard in raw["shards"]
            ),
            frames=raw["frames"],
        )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{path}: damaged ({error!r}); start again with an empty output folder") from error


def write_plan(output: Path, plan: Plan) -> None:
    """Writes the plan into an output folder."""
    raw = {
        "schema": PLAN_SCHEMA,
        "settings": plan.settings,
        "found": plan.found,
        "frames": plan.frames,
        "shards": [{"name": shard.name, "clips": [asdict(clip) for clip in shard.clips]} for shard in plan.shards],
    }
    text = json.dumps(raw, indent=1, sort_keys=True, default=str)
    write_whole(output / PARTS_FOLDER / PLAN_NAME, text)


def _clip_from_json(raw: dict[str, Any]) -> ClipSource:
    for key in ("path", "audio", "factors"):
        raw[key] = None if raw[key] is None else Path(raw[key])
    raw["crop"] = None if raw["crop"] is None else tuple(raw["crop"])
    raw["notes"] = tuple(raw["notes"])
    raw["problem"] = None if raw["problem"] is None else Reason(raw["problem"])
    return ClipSource(**raw)


def continued(plan: Plan, config: PrepareConfig, clips: Sequence[ClipSource], output: Path) -> Plan:
    """Updates the paths in a plan to the current files, which may have moved or been downloaded again.

    A clip with a problem becomes the current one, whose file, row or shots may have been mended since.

    Raises:
        ShardError: If settings or clips differ from the plan; the message names each difference.
    """
    require_same_settings(plan, config, output)
    before, now = set(plan.found), {clip.key for clip in clips}
    if before != now:
        new, gone = sorted(now - before), sorted(before - now)
        changes = [f"{len(keys)} {word} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
                   for keys, word in ((new, "new"), (gone, "gone")) if keys]  # fmt: skip
        raise ShardError(
            f"{output}: the source has changed since this output was begun: {' and '.join(changes)}. "
            "Prepare new clips into another output (datamodules read several), or start again with an empty one"
        )

    sources = {clip.key: clip for clip in clips}

    def moved(piece: ClipSource) -> ClipSource:
        source = sources.get(piece.key) or sources[piece.key.rpartition(PIECE)[0]]
        if piece.problem is not None and (piece.problem != Reason.DUPLICATE or source.problem is not None):
            return _planned_again(piece, source, config.max_seconds)
        return replace(piece, path=source.path, audio=source.audio, factors=source.factors)

    shards = (PlannedShard(shard.name, tuple(map(moved, shard.clips))) for shard in plan.shards)
    return replace(plan, shards=tuple(shards))


def require_same_settings(plan: Plan, config: PrepareConfig, output: Path) -> None:
    """Checks that a plan was made with the settings of this run.

    Raises:
        ShardError: If settings differ; the message names each difference.
    """
    wanted = json.loads(json.dumps(settings_of(config)))
    differing = sorted(_differences(plan.settings, wanted))
    if differing:
        raise ShardError(
            f"{output}: has shards of other settings: {'; '.join(differing)}. "
            "Repeat the settings, or choose another output"
        )


def file_of(source: str) -> str:
    """Returns the file of a sample's ``source``: removes the piece number of ``talk.mp4[1]``."""
    return re.sub(r"\[\d+\]$", "", source)


def _planned_again(piece: ClipSource, source: ClipSource, max_seconds: float) -> ClipSource:
    """The current clip in place of a planned one with a problem, where it is still one piece."""
    now = _cut(source, max_seconds, HeaderLengths())
    if len(now) == 1:
        return now[0][0]
    detail = f"can be read now, but is longer than max_seconds={max_seconds:g}: prepare it into another output"
    return replace(piece, problem_detail=detail)


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key in before.keys() | now.keys():
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old}, now {new}"
