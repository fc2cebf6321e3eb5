"""One clip by one system: its inputs, its program, its video, the clip made of it, and the record of all that."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmark.cases import Case
from benchmark.framing import Framing
from benchmark.inputs.collect import RATE, Inputs, Tools, read_speech
from benchmark.normalise import Normalised, look_at, normalise, write_clip
from benchmark.process import Ended, environment, run_program
from benchmark.system import System, fill
from benchmark.view import JobFailed, open_view
from encoders.weights import sha256_of
from evaluation.pairs import ENDINGS
from media import MediaError

LAST_WORDS = 160  # characters of a program's last line that a reason quotes


@dataclass(frozen=True)
class Installation:
    """Where a system is on this machine.

    Attributes:
        python: its interpreter.
        repository: its working copy.
        device: cuda or cpu.
        seed: for systems that take one.
        videos: folder of finished videos, for kind folder.
        scratch: folder for the jobs' private folders.
        limit: seconds a clip may take.
    """

    python: Path
    repository: Path
    device: str
    seed: int
    videos: Path | None
    scratch: Path
    limit: float


@dataclass
class Record:
    """All that is known of one clip; saved as JSON.

    Attributes:
        clip: its name.
        system: the system's.
        status: done or failed.
        reason: why it failed.
        offset: frame 0 of the video belongs to this frame of sound and real video, at 25 fps.
        framing: whole, head or pcavs.
        command: what was run.
        exit_status: of the program.
        seconds: it took.
        peak_memory_mib: of its largest process.
        source: the video as the system wrote it.
        video: the normalised clip.
        reference: the real video in the same framing; None without one, and ``notes`` say why.
        notes: what a reader has to know.
        fingerprint: of everything the clip depends on.
    """

    clip: str
    system: str
    status: str = "failed"
    reason: str | None = None
    offset: int = 0
    framing: str = "whole"
    command: list[str] = field(default_factory=list)
    exit_status: int | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None
    source: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    reference: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    fingerprint: str = ""


@dataclass(frozen=True)
class Targets:
    """Where a clip's files go."""

    video: Path
    reference: Path
    log: Path


def make_clip(
    system: System, case: Case, place: Installation, tools: Tools, targets: Targets, stop: threading.Event
) -> Record:
    """Makes one clip; whatever is wrong becomes the record's reason.

    Raises:
        Stopped: if ``stop`` was set while the program ran.
    """
    record = Record(case.clip, system.name, offset=system.output.offset, framing=system.portrait.framing)
    place.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{case.slug}.", dir=place.scratch))
    try:
        _make(system, case, place, tools, targets, stop, folder, record)
        record.status = "done"
    except (JobFailed, OSError) as error:
        record.reason = str(error)
        targets.video.unlink(missing_ok=True)
        targets.reference.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def _make(
    system: System,
    case: Case,
    place: Installation,
    tools: Tools,
    targets: Targets,
    stop: threading.Event,
    folder: Path,
    record: Record,
) -> None:
    for name, path in case.files().items():
        if not path.is_file():
            raise JobFailed(f"{name} {path}: no such file")
    sound = read_speech(case)
    framing = Framing(system.portrait, case.portrait, tools.faces)
    if system.kind == "command":
        job = Inputs(system, case, folder / "in", tools, framing, sound)
        source, seconds = _run_system(job, place, targets, stop, folder, record)
        record.notes += job.notes
    else:
        source, seconds = _finished(system, case, place), len(sound) / RATE
    if system.kind == "reference":
        size = framing.picture.shape[1], framing.picture.shape[0]
        record.video = _described(targets.video, _write_real(framing, case, sound, size, targets.video))
        return
    record.source = asdict(look_at(source, system.output, seconds))
    clip = normalise(source, targets.video, sound, RATE, system.output)
    record.video = _described(targets.video, clip)
    _write_reference(framing, case, sound, clip, targets.reference, record)


def _run_system(
    job: Inputs, place: Installation, targets: Targets, stop: threading.Event, folder: Path, record: Record
) -> tuple[Path, float]:
    """The video its program wrote, and the length of the sound it got, seconds."""
    view = open_job(job, place, folder)
    record.command = command_of(job, place, folder)
    targets.log.parent.mkdir(parents=True, exist_ok=True)
    env = environment(place.python, fill(job.system.variables, given_by(job, place, folder)), folder / "tmp")
    try:
        ended = run_program(record.command, view, env, targets.log, place.limit, stop)
    except OSError as error:
        raise JobFailed(f"{place.python}: cannot be started ({error.strerror})") from error
    record.exit_status, record.seconds = ended.status, round(ended.seconds, 3)
    record.peak_memory_mib = round(ended.peak_mib, 1)
    said = targets.log.read_text(encoding="utf-8", errors="replace")
    if ended.timed_out:
        raise JobFailed(f"took longer than {place.limit:g} s and was stopped; its last words: {last_words(said)}")
    for symptom in job.system.symptoms:
        if symptom.fails and symptom.text in said:
            raise JobFailed(symptom.means)
    return _collect(job, place, folder, view, ended, said), job.given


def open_job(job: Inputs, place: Installation, folder: Path) -> Path:
    """Makes a job's folders, its view of the repository and all inputs; returns the view.

    Raises:
        JobFailed: if the case cannot give an input, or the repository is another version.
    """
    view = folder / "view"
    for name in ("in", "out", "tmp"):
        (folder / name).mkdir(parents=True)
    open_view(place.repository, view, job.system.writes, job.system.patches)
    job.folder = folder / "in"
    job.made = {name: job.make(name) for name in job.system.needs()}
    if job.system.settings is not None:
        template = place.repository / job.system.settings.template
        try:
            content = yaml.safe_load(template.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise JobFailed(f"{template}: cannot be read as YAML ({error})") from error
        changed = fill(job.system.settings.values, given_by(job, place, folder))
        if lost := [key for key in changed if key not in content]:
            raise JobFailed(f"{template}: has no key {', '.join(lost)}: this is another version")
        (folder / "in" / "settings.yaml").write_text(
            yaml.safe_dump({**content, **changed}, allow_unicode=True, sort_keys=False), encoding="utf-8"
        )
    return view


def given_by(job: Inputs, place: Installation, folder: Path) -> dict[str, str]:
    """What the placeholders of a system's file stand for in this job."""
    return {
        "python": str(place.python),
        "job": str(folder),
        "id": job.case.slug,
        "seed": str(place.seed),
        "settings": str(folder / "in" / "settings.yaml"),
        **job.made,
    }


def command_of(job: Inputs, place: Installation, folder: Path) -> list[str]:
    """The program and its arguments."""
    return fill([*job.system.command, *job.system.devices[place.device]], given_by(job, place, folder))


def _collect(job: Inputs, place: Installation, folder: Path, view: Path, ended: Ended, said: str) -> Path:
    """The one video the program wrote; its exit status is no proof of one.

    Raises:
        JobFailed: if there is none, or more than one.
    """
    pattern = fill(job.system.output.path, given_by(job, place, folder))
    root = folder if Path(pattern).is_absolute() else view
    relative = Path(pattern).relative_to(folder) if Path(pattern).is_absolute() else Path(pattern)
    unwanted = tuple(job.system.output.exclude)
    found = [
        path
        for path in root.glob(str(relative))
        if path.is_file() and path.stat().st_size and not (unwanted and path.name.endswith(unwanted))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise JobFailed(f"wrote {len(found)} videos where one was expected: {', '.join(path.name for path in found)}")
    raise JobFailed(f"wrote no video (exit status {ended.status}): {explained(job.system, said)}")


def explained(system: System, said: str) -> str:
    """Why a program failed, from what it printed."""
    if package := re.search(r"(?:ModuleNotFoundError|ImportError): No module named '([^']+)'", said):
        return f"its environment lacks the package {package[1]}"
    for symptom in system.symptoms:
        if symptom.text in said:
            return symptom.means
    return f"its last words: {last_words(said)}"


def last_words(said: str) -> str:
    """The last line a program printed."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    return lines[-1][-LAST_WORDS:] if lines else "none"


def _finished(system: System, case: Case, place: Installation) -> Path:
    """The video a system of another kind has.

    Raises:
        JobFailed: if there is none.
    """
    if system.kind == "reference":
        if case.video is None:
            raise JobFailed("the case names no real video (column video)")
        return case.video
    assert place.videos is not None
    wanted = place.videos / case.clip
    endings = (*ENDINGS, *(ending.upper() for ending in ENDINGS))
    found = [path for ending in endings if (path := wanted.with_name(wanted.name + ending)).is_file()]
    if len(found) != 1:
        raise JobFailed(f"{place.videos}: holds {len(found)} videos named {case.clip}, expected one")
    return found[0]


def _write_reference(
    framing: Framing, case: Case, sound: np.ndarray, clip: Normalised, target: Path, record: Record
) -> None:
    """Writes the real video as the system would have framed it, where there is one and that can be known."""
    if case.video is None:
        record.notes.append("no reference: the case names no real video")
        return
    try:
        made = _write_real(framing, case, sound, (clip.width, clip.height), target)
    except JobFailed as error:
        record.notes.append(f"no reference: {error}")
        return
    record.reference = _described(target, made)


def _write_real(framing: Framing, case: Case, sound: np.ndarray, size: tuple[int, int], target: Path) -> Normalised:
    assert case.video is not None
    try:
        return write_clip(target, framing.real_frames(case.video, size), sound, RATE, 0)
    except MediaError as error:
        raise JobFailed(str(error)) from error


def _described(path: Path, clip: Normalised) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256_of(path), **asdict(clip)}
