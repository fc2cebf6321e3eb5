"""Generates one clip with one system: creates inputs, runs the program, normalises the video and keeps a record."""

from __future__ import annotations

import shutil
import tempfile
import threading
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmark.case_list import Case
from benchmark.framing import Framing
from benchmark.inputs.collect import RATE, Inputs, Tools, read_speech
from benchmark.normalise import Normalised, check_video, normalise, write_clip
from benchmark.process import Stopped, environment, run_program
from benchmark.system import System, fill
from benchmark.workspace import find_video, last_line, open_view
from media import VIDEO_ENDINGS, MediaError
from preparation.synthetic.write import factors_path
from runtime.errors import UserError
from runtime.files import sha256_of


@dataclass(frozen=True)
class Installation:
    """Installation of a system on this machine.

    Attributes:
        python: Interpreter.
        repository: Working copy of the repository.
        device: cuda or cpu.
        seed: Seed, for systems that take one.
        videos: Folder of finished videos, for kind folder.
        scratch: Folder of the jobs' private folders.
        limit: Seconds that a clip may take.
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
    """Record of one clip, saved as JSON.

    Attributes:
        clip: Name of the clip.
        system: Name of the system.
        status: done or failed.
        reason: Reason of a failure.
        offset: Frame of the sound and of the real video that belongs to frame 0 of the video, at 25 fps.
        framing: whole, head or pcavs.
        command: Command that was run.
        exit_status: Exit status of the program.
        seconds: Duration of the program.
        peak_memory_mib: Peak memory of its largest process.
        source: Properties of the video that the system wrote.
        video: Properties of the normalised clip.
        reference: Properties of the real video in the same framing; None if there is none (see ``notes``).
        notes: Notes for the reader.
        fingerprint: Hash of everything that the clip depends on.
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


# input -> the files of a case that it is created from, in addition to portrait, speech and real video
MADE_OF = {
    "driving_video": ("driving_video",),
    "driving_faces": ("driving_video",),
    "style_mat": ("style", "driving_video"),
    "pose_mat": ("pose", "driving_video"),
    "phonemes": ("phonemes",),
}


@dataclass(frozen=True)
class Targets:
    """Output files of a clip."""

    video: Path
    reference: Path
    log: Path


def make_clip(
    system: System, case: Case, place: Installation, tools: Tools, targets: Targets, stop: threading.Event
) -> Record:
    """Generates one clip. Every error becomes the reason in the record.

    Raises:
        Stopped: If ``stop`` was set while the program ran.
    """
    record = Record(case.clip, system.name, offset=system.output.offset, framing=system.portrait.framing)
    place.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{case.slug}.", dir=place.scratch))
    try:
        _make(system, case, place, tools, targets, stop, folder, record)
        record.status = "done"
    except Stopped:
        raise
    except (UserError, OSError) as error:
        record.reason = str(error)
    except Exception as error:  # a bug in this project; the other clips are still generated
        record.reason = f"unexpected {type(error).__name__}: {error} (see its log); please report it"
        targets.log.parent.mkdir(parents=True, exist_ok=True)
        with targets.log.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
    finally:
        if record.status != "done":
            targets.video.unlink(missing_ok=True)
            targets.reference.unlink(missing_ok=True)
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
    for name, path in files_used(system, case).items():
        if not path.is_file():
            raise UserError(f"{name} {path}: no such file")
    sound = read_speech(case)
    framing = Framing(system.portrait, case.portrait, tools.faces)
    if system.kind == "command":
        job = Inputs(system, case, folder / "in", tools, framing, sound)
        source, seconds = _run_system(job, place, targets, stop, folder, record)
        record.notes += job.notes
    else:
        source, seconds = finished_video(system, case, place), len(sound) / RATE
    if system.kind == "reference":
        size = framing.picture.shape[1], framing.picture.shape[0]
        made = _write_real(framing, case, sound, size, targets.video)
        record.video = _described(targets.video, case, made)
        return
    record.source = asdict(check_video(source, system.output, seconds))
    clip = normalise(source, targets.video, sound, RATE, system.output)
    record.video = _described(targets.video, case, clip)
    _write_reference(framing, case, sound, clip, targets.reference, record)


def files_used(system: System, case: Case) -> dict[str, Path]:
    """Returns the files of a case that a system's clip depends on, by their field."""
    used = {"portrait", "speech", "video", *(name for need in system.needs() for name in MADE_OF.get(need, ()))}
    return {name: path for name, path in case.files().items() if name in used}


def _run_system(
    job: Inputs, place: Installation, targets: Targets, stop: threading.Event, folder: Path, record: Record
) -> tuple[Path, float]:
    """Runs the program; returns its video and the duration of the sound it got, in seconds."""
    view = open_job(job, place, folder)
    record.command = command_of(job, place, folder)
    targets.log.parent.mkdir(parents=True, exist_ok=True)
    env = environment(place.python, fill(job.system.variables, given_by(job, place, folder)), folder / "tmp")
    try:
        ended = run_program(record.command, view, env, targets.log, place.limit, stop)
    except OSError as error:
        raise UserError(f"{place.python}: cannot be started ({error.strerror})") from error
    record.exit_status, record.seconds = ended.status, round(ended.seconds, 3)
    record.peak_memory_mib = round(ended.peak_mib, 1)
    if ended.status:
        record.notes.append(f"exit status of the program: {ended.status}")
    printed = targets.log.read_text(encoding="utf-8", errors="replace")
    if ended.timed_out:
        raise UserError(f"took longer than {place.limit:g} s and was stopped; last output: {last_line(printed)}")
    for symptom in job.system.symptoms:
        if symptom.fails and symptom.text in printed:
            raise UserError(symptom.means)
    pattern = fill(job.system.output.path, given_by(job, place, folder))
    return find_video(job.system, pattern, folder, view, ended, printed), job.given


def open_job(job: Inputs, place: Installation, folder: Path) -> Path:
    """Creates the folders, the view of the repository and all inputs of a job; returns the view.

    Raises:
        UserError: If the case lacks an input, or the repository is of another version.
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
            raise UserError(f"{template}: cannot be read as YAML ({error})") from error
        changed = fill(job.system.settings.values, given_by(job, place, folder))
        if lost := [key for key in changed if key not in content]:
            raise UserError(f"{template}: has no key {', '.join(lost)}; check out the described commit")
        (folder / "in" / "settings.yaml").write_text(
            yaml.safe_dump({**content, **changed}, allow_unicode=True, sort_keys=False), encoding="utf-8"
        )
    return view


def given_by(job: Inputs, place: Installation, folder: Path) -> dict[str, str]:
    """Returns the values of the placeholders of a system's description for this job."""
    return {
        "python": str(place.python),
        "job": str(folder),
        "id": job.case.slug,
        "seed": str(place.seed),
        "settings": str(folder / "in" / "settings.yaml"),
        **job.made,
    }


def command_of(job: Inputs, place: Installation, folder: Path) -> list[str]:
    """Returns the program and its arguments."""
    return fill([*job.system.command, *job.system.devices[place.device]], given_by(job, place, folder))


def finished_video(system: System, case: Case, place: Installation) -> Path:
    """Returns the video of a system that is not run: kinds reference and folder.

    Raises:
        UserError: If there is none.
    """
    if system.kind == "reference":
        if case.video is None:
            raise UserError("the case has no real video (column video)")
        return case.video
    assert place.videos is not None
    wanted = place.videos / case.clip
    endings = (*VIDEO_ENDINGS, *(ending.upper() for ending in VIDEO_ENDINGS))
    found = [path for ending in endings if (path := wanted.with_name(wanted.name + ending)).is_file()]
    if len(found) != 1:
        raise UserError(f"{place.videos}: has {len(found)} videos named {case.clip}, expected one")
    return found[0]


def _write_reference(
    framing: Framing, case: Case, sound: np.ndarray, clip: Normalised, target: Path, record: Record
) -> None:
    """Writes the real video in the system's framing, if there is one and the framing can be applied."""
    if case.video is None:
        record.notes.append("no reference: the case has no real video")
        return
    try:
        made = _write_real(framing, case, sound, (clip.width, clip.height), target)
    except UserError as error:
        record.notes.append(f"no reference: {error}")
        return
    record.reference = _described(target, case, made)


def _write_real(framing: Framing, case: Case, sound: np.ndarray, size: tuple[int, int], target: Path) -> Normalised:
    assert case.video is not None
    factors = factors_path(case.video)
    try:
        made = write_clip(target, framing.real_frames(case.video, size), sound, RATE, 0)
        if factors.is_file():  # marks the speaker as synthetic for evaluations
            shutil.copyfile(factors, factors_path(target))
        return made
    except MediaError as error:
        raise UserError(str(error)) from error


def _described(path: Path, case: Case, clip: Normalised) -> dict[str, Any]:
    return {"file": f"{case.clip}.mp4", "sha256": sha256_of(path), **asdict(clip)}
