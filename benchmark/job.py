"""One clip by one system: its inputs, its program, its video, the clip made of it, and the record of all that."""

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
from benchmark.normalise import Normalised, look_at, normalise, write_clip
from benchmark.process import Stopped, environment, run_program
from benchmark.system import System, fill
from benchmark.workspace import find_video, last_words, open_view
from media import VIDEO_ENDINGS, MediaError
from preparation.synthetic.write import factors_path
from runtime.errors import UserError
from runtime.files import sha256_of


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


# Which of a case's files an input is made of, beside portrait, speech and the real video.
MADE_OF = {
    "driving_video": ("driving_video",),
    "driving_faces": ("driving_video",),
    "style_mat": ("style", "driving_video"),
    "pose_mat": ("pose", "driving_video"),
    "phonemes": ("phonemes",),
}


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
    except Stopped:
        raise
    except (UserError, OSError) as error:
        record.reason = str(error)
    except Exception as error:  # ours to mend, but the other clips are made meanwhile
        record.reason = f"an unforeseen {type(error).__name__}: {error} (see its log)"
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
    record.source = asdict(look_at(source, system.output, seconds))
    clip = normalise(source, targets.video, sound, RATE, system.output)
    record.video = _described(targets.video, case, clip)
    _write_reference(framing, case, sound, clip, targets.reference, record)


def files_used(system: System, case: Case) -> dict[str, Path]:
    """The files of a case that a system's clip depends on, by what they are."""
    used = {"portrait", "speech", "video", *(name for need in system.needs() for name in MADE_OF.get(need, ()))}
    return {name: path for name, path in case.files().items() if name in used}


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
        raise UserError(f"{place.python}: cannot be started ({error.strerror})") from error
    record.exit_status, record.seconds = ended.status, round(ended.seconds, 3)
    record.peak_memory_mib = round(ended.peak_mib, 1)
    if ended.status:
        record.notes.append(f"the program's exit status was {ended.status}")
    printed = targets.log.read_text(encoding="utf-8", errors="replace")
    if ended.timed_out:
        raise UserError(f"took longer than {place.limit:g} s and was stopped; its last words: {last_words(printed)}")
    for symptom in job.system.symptoms:
        if symptom.fails and symptom.text in printed:
            raise UserError(symptom.means)
    pattern = fill(job.system.output.path, given_by(job, place, folder))
    return find_video(job.system, pattern, folder, view, ended, printed), job.given


def open_job(job: Inputs, place: Installation, folder: Path) -> Path:
    """Makes a job's folders, its view of the repository and all inputs; returns the view.

    Raises:
        UserError: if the case cannot give an input, or the repository is another version.
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
            raise UserError(f"{template}: has no key {', '.join(lost)}: this is another version")
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


def finished_video(system: System, case: Case, place: Installation) -> Path:
    """The video a system of another kind has.

    Raises:
        UserError: if there is none.
    """
    if system.kind == "reference":
        if case.video is None:
            raise UserError("the case names no real video (column video)")
        return case.video
    assert place.videos is not None
    wanted = place.videos / case.clip
    endings = (*VIDEO_ENDINGS, *(ending.upper() for ending in VIDEO_ENDINGS))
    found = [path for ending in endings if (path := wanted.with_name(wanted.name + ending)).is_file()]
    if len(found) != 1:
        raise UserError(f"{place.videos}: holds {len(found)} videos named {case.clip}, expected one")
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
    except UserError as error:
        record.notes.append(f"no reference: {error}")
        return
    record.reference = _described(target, case, made)


def _write_real(framing: Framing, case: Case, sound: np.ndarray, size: tuple[int, int], target: Path) -> Normalised:
    assert case.video is not None
    factors = factors_path(case.video)
    try:
        made = write_clip(target, framing.real_frames(case.video, size), sound, RATE, 0)
        if factors.is_file():  # evaluations see by it that a speaker is synthetic
            shutil.copyfile(factors, factors_path(target))
        return made
    except MediaError as error:
        raise UserError(str(error)) from error


def _described(path: Path, case: Case, clip: Normalised) -> dict[str, Any]:
    return {"file": f"{case.clip}.mp4", "sha256": sha256_of(path), **asdict(clip)}
