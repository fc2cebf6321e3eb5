"""Generates all clips of a list with one system. Finished clips are kept; missing and failed ones are generated."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmark.case_list import Case, read_cases
from benchmark.framing import FaceFinder
from benchmark.inputs.collect import Tools
from benchmark.installation import commit_of, find_installation
from benchmark.job import Installation, Record, Targets, files_used, finished_video, make_clip
from benchmark.system import System, load_system
from configs.rules import parse_part
from configs.systems import RunSystemConfig
from encoders.factory import build_landmark_detector
from evaluation.clip_records import SCHEMA
from preparation.synthetic.write import factors_path, landmarks_path
from runtime.console import new_console
from runtime.errors import UserError
from runtime.files import require_writable, sha256_of, write_whole
from runtime.json_text import read_json
from runtime.locks import locked
from runtime.ownership import claim
from runtime.progress import progress_bar

SOME_FAILED = 3


def run_system(config: RunSystemConfig) -> int:
    """Generates the clips, prints failures and returns the exit status.

    Raises:
        UserError: If the system's description or the list of cases is invalid.
        EvaluationError: If the output folder cannot be written.
    """
    system = described(config)
    index, parts = parse_part(config.part)
    cases = read_cases(Path(config.cases))[index::parts]
    output = Path(config.output)
    require_writable(output / "records" / "probe")
    console = new_console(stderr=True)
    what = f"output={output}" + (f" part={config.part}" if parts > 1 else "")
    with locked(output / f".part-{index + 1}-of-{parts}.lock", what, "wait for it, or choose another output"):
        _claim(output, cases)
        records = make_clips(system, cases, config, console)
    done = [record for record in records if record.status == "done"]
    for record in records:
        if record.status != "done":
            console.print(f"failed  {record.clip}: {record.reason}", markup=False, soft_wrap=True)
    console.print(
        f"{system.title}: {len(done)} of {len(cases)} clips in {output / 'videos'} (offset={system.output.offset})",
        markup=False,
        soft_wrap=True,
    )
    return 0 if len(done) == len(cases) else SOME_FAILED


def _claim(output: Path, cases: Sequence[Case]) -> None:
    """Lists the files of the cases as this program's.

    Raises:
        ForeignFileError: If one is there and of somebody else.
    """
    names, ours = [], []
    for case in cases:
        targets = targets_of(output, case)
        paths = [*asdict(targets).values(), record_path(output, case)]
        paths += [make(path) for path in (targets.video, targets.reference) for make in (landmarks_path, factors_path)]
        mine = [path.relative_to(output).as_posix() for path in paths]
        names += mine
        if read_record(record_path(output, case)) is not None:  # also of a version without a list
            ours += mine
    claim(output, names, f"output={output}", ours)


def described(config: RunSystemConfig) -> System:
    """Returns the system's description with the configuration's size, title, panel and offset."""
    system = load_system(config.system)
    if config.size is not None:
        system.portrait.size = config.size
    if system.kind == "folder":
        system.title = config.title or system.title
        system.output.panel, system.output.offset = config.panel, config.offset
    return system


def make_clips(system: System, cases: Sequence[Case], config: RunSystemConfig, console: Console) -> list[Record]:
    """Returns the records of all cases, in order. Each is saved as soon as its clip is done or failed."""
    output = Path(config.output)
    try:
        place = find_installation(system, config)
    except UserError as error:
        return [_unusable(system, case, str(error), output) for case in cases]
    tools = Tools(
        FaceFinder(build_landmark_detector(config.landmarks)),
        {"ethd": os.path.abspath(config.ethd)} if config.ethd else {},
    )
    setting = _setting(system, place, config)
    records: dict[str, Record] = {}
    stop = threading.Event()
    with (
        progress_bar(console, system.title, len(cases)) as bar,
        ThreadPoolExecutor(config.workers, thread_name_prefix="clip") as pool,
    ):
        waiting: dict[Future[Record], Case] = {
            pool.submit(_one, system, case, place, tools, output, setting, stop): case for case in cases
        }
        try:
            for future in as_completed(waiting):
                records[waiting[future].clip] = future.result()
                bar.advance(bar.task_ids[0])
        except BaseException:
            stop.set()  # ends the running programs
            pool.shutdown(cancel_futures=True)
            raise
    return [records[case.clip] for case in cases]


def _one(
    system: System, case: Case, place: Installation, tools: Tools, output: Path, setting: str, stop: threading.Event
) -> Record:
    targets = targets_of(output, case)
    fingerprint = _fingerprint(setting, system, case, place)
    kept = read_record(record_path(output, case))
    if kept is not None and kept.status == "done" and kept.fingerprint == fingerprint and _whole(kept, targets):
        return kept
    record = make_clip(system, case, place, tools, targets, stop)
    record.fingerprint = fingerprint
    _save(record, output, case, system, place)
    return record


def targets_of(output: Path, case: Case) -> Targets:
    """Returns the output files of a clip."""
    return Targets(
        output / "videos" / f"{case.clip}.mp4",
        output / "reference" / f"{case.clip}.mp4",
        output / "logs" / f"{case.clip}.txt",
    )


def record_path(output: Path, case: Case) -> Path:
    """Returns the path of a clip's record."""
    return output / "records" / f"{case.clip}.json"


def read_record(path: Path) -> Record | None:
    """Reads a record; None if there is none of this version."""
    try:
        content = read_json(path)
        if content.get("schema") != SCHEMA:
            return None
        return Record(**content["record"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _unusable(system: System, case: Case, reason: str, output: Path) -> Record:
    """Records that a clip cannot be generated. A clip that is already finished is kept."""
    kept = read_record(record_path(output, case))
    if kept is not None and kept.status == "done" and _whole(kept, targets_of(output, case)):
        return kept
    record = Record(case.clip, system.name, reason=reason, offset=system.output.offset, framing=system.portrait.framing)
    _save(record, output, case, system, None)
    return record


def _whole(record: Record, targets: Targets) -> bool:
    """Returns whether the files of a record exist unchanged."""
    for described, path in ((record.video, targets.video), (record.reference, targets.reference)):
        if described is not None and not (path.is_file() and sha256_of(path) == described["sha256"]):
            return False
    return record.video is not None


def _setting(system: System, place: Installation, config: RunSystemConfig) -> str:
    """Returns everything that a clip depends on, except its case, as text."""
    descriptive = ("title", "licence", "weights", "environment", "defects", "symptoms", "packages", "requires")
    kept = {name: value for name, value in asdict(system).items() if name not in descriptive}
    return json.dumps(
        {
            "schema": SCHEMA,
            "system": kept,
            "commit": commit_of(place.repository) if system.repository else None,
            "device": place.device,
            "seed": place.seed,
            "ethd": _networks(Path(config.ethd)) if config.ethd else None,
            "landmarks": config.landmarks,
        },
        sort_keys=True,
    )


def _networks(run: Path) -> list[tuple[str, int, int]]:
    """Returns path, size and modification time of the weight files of a run, or of one file."""
    files = sorted(run.rglob("*.safetensors")) if run.is_dir() else [run] if run.is_file() else []
    return [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _fingerprint(setting: str, system: System, case: Case, place: Installation) -> str:
    used = files_used(system, case)
    if system.kind == "folder":
        with contextlib.suppress(UserError):  # reported when the clip is generated
            used["finished"] = finished_video(system, case, place)
    files = {name: sha256_of(path) if path.is_file() else None for name, path in sorted(used.items())}
    return hashlib.sha256(json.dumps([setting, case.clip, files], sort_keys=True).encode()).hexdigest()


def _save(record: Record, output: Path, case: Case, system: System, place: Installation | None) -> None:
    path = record_path(output, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    commit = commit_of(place.repository) if place and system.repository else None
    content = {
        "schema": SCHEMA,
        "record": asdict(record),
        "system": {
            "title": system.title,
            "driven": system.driven,
            "repository": system.repository,
            "commit": commit,
            "described_commit": system.commit,
            "licence": system.licence,
            "defects": system.defects,
        },
    }
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
