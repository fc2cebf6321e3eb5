"""Checks of what is at a path: a run, prepared data, an export, or a folder of videos.

Packages are imported where they are used, since most take seconds to import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.registries import ENCODERS
from datamodules.index_checks import index_problems, is_plain_name
from datamodules.schema import INDEX_NAME, Index, ShardEntry, ShardError
from datamodules.staging import LocalShards, changed_content, decoded_members
from runtime.errors import UserError, first_line, message_of
from runtime.files import below
from runtime.health import Finding, fine, note, problem, size_text
from runtime.json_text import parse_json
from runtime.locks import lock_of, owner_of

PARTS = Path("parts")  # folder of data whose preparation has begun
SHOWN = 8  # findings of one kind that are listed
Step = Callable[[str], None]  # called with the name of a file before it is read


def findings_of(path: Path, on_file: Step) -> tuple[str, Iterator[Finding]]:
    """What is at a path (run, data, export, checkpoint or output), and what was found there.

    Raises:
        UserError: If there is nothing.
    """
    if path.is_dir():
        if (path / INDEX_NAME).exists() or (path / PARTS / "plan.json").exists():
            return "data", _data(path, on_file)
        if (path / "checkpoints").is_dir() or (path / "config.yaml").is_file():
            return "run", _run(path, on_file)
        if (path / "latest").is_file():
            return "checkpoint", _checkpoint(path, on_file)
        return "output", _output(path, on_file)
    if not path.exists():
        raise UserError(f"path={path}: does not exist; expected a run, data, an export or an output folder")
    if path.suffix == ".safetensors":
        return "export", _export(path, on_file)
    return "checkpoint", _checkpoint(path, on_file)


def _run(folder: Path, on_file: Step) -> Iterator[Finding]:
    from lightning_modules.ethd.export import EXPORT
    from training.run_health import run_findings

    yield from run_findings(folder, deep=True, on_file=on_file)
    if (folder / EXPORT).exists():
        yield from _export(folder / EXPORT, on_file)


def _checkpoint(path: Path, on_file: Step) -> Iterator[Finding]:
    from lightning_modules.checkpoint_files import damage_of
    from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError, open_checkpoint

    on_file(path.name)
    if wrong := damage_of(path, again=True):
        yield problem(path.name, wrong, "use an earlier checkpoint of the run, or copy it again")
        return
    try:
        info = open_checkpoint(path).get(CHECKPOINT_INFO)
        stage = info.get("stage") if isinstance(info, dict) else None
    except CheckpointError as error:
        yield problem(path.name, message_of(error), "use another checkpoint")
        return
    if not stage:
        yield problem(path.name, "was not written by train.py", "give a run, data, an export or an output folder")
    else:
        yield fine(path.name, f"stage {str(stage)[:40]}; its content has its checksums")


def _export(path: Path, on_file: Step) -> Iterator[Finding]:
    from lightning_modules.ethd.export import load_export

    on_file(path.name)
    try:
        export = load_export(path)
    except (UserError, OSError) as error:
        yield problem("export", message_of(error), "export the run again: python train.py task=export run=RUN")
        return
    emotion = "with emotion by label" if export.table is not None else "without emotion by label"
    yield fine("export", f"{size_text(path.stat().st_size)}, {export.step} steps, {emotion}; all tensors are whole")
    yield from (fine(name, text) for name, text in _record(export.record).items())
    if not os.stat(path).st_mode & 0o044:
        yield note("export", "nobody else can read it", f"chmod a+r {path}, if colleagues are to use it")


def _record(record: Mapping[str, Any]) -> dict[str, str]:
    """The record of an export in words."""
    data, scores, versions = (_mapping(record.get(name)) for name in ("data", "scores", "versions"))
    words = {}
    if "commit" in record:
        changed = " with changes" if record.get("changed") else ""
        name, seed, commit = (_short(record.get(key)) for key in ("name", "seed", "commit"))
        words["trained"] = f"{name}, seed {seed}, at commit {commit}{changed}"
    if data:
        hashes = [_short(value)[:12] for value in _mapping(data.get("sha256")).values()]
        words["data"] = " ".join([_short(data.get("name")), *(f"sha256 {value}" for value in hashes[:SHOWN])])
    if versions:
        words["versions"] = ", ".join(f"{_short(key)} {_short(value)}" for key, value in list(versions.items())[:SHOWN])
    numbers = [(key, value) for key, value in scores.items() if type(value) in (int, float)]
    if numbers:
        words["scores"] = ", ".join(f"{_short(key)} {value:.3g}" for key, value in numbers[:20])
    return words


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    """A value of a file that may be a stranger's, in one line of at most 40 characters."""
    return " ".join(str(value)[:40].split())


def _data(folder: Path, on_file: Step) -> Iterator[Finding]:
    for lock in sorted((folder / PARTS).glob(".part-*.lock")):
        if owner := owner_of(lock):
            yield note("lock", f"is being prepared by {owner}", "wait for it")
    try:
        index = Index.read(folder)
    except ShardError as error:
        yield problem(INDEX_NAME, message_of(error), "finish prepare.py, or run prepare.py task=merge")
        return
    wrong = list(index_problems(index))
    wrong += [
        f"{kind} encoder {identity.name!r} is not known here"
        for kind, identity in index.encoders.items()
        if identity.name not in ENCODERS[kind]
    ]
    yield from _several(INDEX_NAME, wrong, "run prepare.py task=merge, or prepare the data again")
    if not wrong:
        frames = int(index.samples.frames.sum())
        speakers = len(index.samples.label_codes("speaker")[1])
        yield fine(INDEX_NAME, f"{len(index.samples)} clips, {speakers} speakers, {frames / index.fps / 3600:.1f} h")
    damaged = []
    for shard in index.shards:
        on_file(shard.name)
        if is_plain_name(shard.name) and (text := _shard(folder, shard, decoded_members(index, shard.name))):
            damaged.append(f"{shard.name}: {text}")
    yield from _several("shards", damaged, "copy or prepare them again; prepare.py task=check looks inside")
    if not damaged:
        size = sum(shard.bytes for shard in index.shards)
        yield fine("shards", f"{len(index.shards)} with the hashes of the index, {size_text(size)}")


def _shard(folder: Path, shard: ShardEntry, members: list[tuple[str, int, int]]) -> str | None:
    try:
        descriptor = LocalShards(folder).open(shard)
    except ShardError as error:
        return message_of(error).removeprefix(f"{folder / shard.name}: ")
    try:
        return changed_content(folder / shard.name, shard, descriptor, members, again=True)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(descriptor)


def _output(folder: Path, on_file: Step) -> Iterator[Finding]:
    from generation.record import SCHEMA, record_path

    if owner := owner_of(lock_of(folder)):
        yield note("lock", f"is being written by {owner}", "wait for it")
    files = sorted(below(folder))
    videos = [path for path in files if path.suffix == ".mp4"]
    alone, foreign = [], []
    for video in videos:
        on_file(video.name)
        try:
            record = parse_json(record_path(video).read_text(encoding="utf-8"))
            if not isinstance(record, dict) or not str(record.get("schema")).startswith(SCHEMA.partition("/")[0]):
                foreign.append(f"{record_path(video).name} is not a record of generate.py")
        except FileNotFoundError:
            alone.append(f"{video.name} has no record")
        except (OSError, ValueError) as error:
            foreign.append(f"{record_path(video).name} cannot be read ({first_line(error)})")
    yield from _several("records", foreign, "generate.py will not replace them; move them away")
    remedy = "made by another program, or interrupted: generate.py makes its own again"
    yield from (note("videos", text, remedy) for text in alone[:SHOWN])
    partials = [path for path in files if path.name.startswith(".") and path.suffix == ".partial"]
    if partials:
        yield note("left behind", f"{len(partials)} unfinished file(s), e.g. {partials[0].name}", "remove them")
    whole = len(videos) - len(alone) - len(foreign)
    if videos:
        yield fine("videos", f"{whole} of {len(videos)} with their records")
    else:
        yield note("videos", "none here", "give a run, data, an export, or a folder of videos")


def _several(what: str, texts: list[str], remedy: str) -> Iterator[Finding]:
    for text in texts[:SHOWN]:
        yield problem(what, text, remedy)
    if len(texts) > SHOWN:
        yield problem(what, f"and {len(texts) - SHOWN} more", remedy)
