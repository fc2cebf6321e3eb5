"""Makes the files that a system's command names, for one case, in the job's own folder."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.case_list import Case
from benchmark.framing import HEAD_SCALE, FaceFinder, Framing, first_frame
from benchmark.inputs.coefficients import Coefficients, extract, read_mat, write_mat
from benchmark.inputs.phonemes import from_intervals, phonemes_of, recognise
from benchmark.normalise import frames_of
from benchmark.system import Speech, System
from encoders.motion.pdfgc import alignment, warp_face
from encoders.weights import WeightsError, locate
from media import FrameReader, MediaError, probe, read_sound
from metrics.networks.deep3d import Deep3DFace
from preparation.clip_source import Rejected
from preparation.speaker_crop import square_crop
from runtime.errors import UserError

RATE = 16_000
WEIGHTS = "deep3dfacerecon"


@dataclass
class Tools:
    """What the inputs of all cases are made with; networks are loaded when one is needed.

    Attributes:
        faces: finds faces.
        runs: ethd, where the person named it.
    """

    faces: FaceFinder
    runs: dict[str, str] = field(default_factory=dict)
    _network: Deep3DFace | None = None

    def deep3d(self) -> Deep3DFace:
        """Deep3DFaceRecon.

        Raises:
            UserError: if its weights are missing.
        """
        with self.faces.lock:
            if self._network is None:
                try:
                    self._network = Deep3DFace(locate(WEIGHTS))
                except (WeightsError, ValueError) as error:
                    raise UserError(f"needs 3DMM coefficients of the driving video: {error}") from error
            return self._network


@dataclass
class Inputs:
    """One job's inputs as they come to be.

    Attributes:
        system: what they are for.
        case: what they are made from.
        folder: where they are written.
        tools: what makes them.
        framing: of the portrait.
        sound: (S,) float32, the speech as the case has it, 16 kHz.
        given: seconds of sound the system gets, padding included.
        made: input -> its path or text, once it is made.
        notes: what a reader of the record has to know.
    """

    system: System
    case: Case
    folder: Path
    tools: Tools
    framing: Framing
    sound: np.ndarray
    given: float = 0.0
    made: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def make(self, name: str) -> str:
        """Makes one input and returns its path, or the text it stands for.

        Raises:
            UserError: if the case cannot give it.
        """
        try:
            return str(_MAKERS[name](self))
        except (UserError, Rejected, OSError) as error:
            raise UserError(str(error)) from error

    @property
    def seconds(self) -> float:
        """Length of the speech."""
        return len(self.sound) / RATE

    def driving(self) -> Path:
        """The video whose expression drives.

        Raises:
            UserError: if the case names none.
        """
        if self.case.driving_video is None:
            raise UserError(f"{self.system.title} is driven by a video too; the case has no emotion.video")
        return self.case.driving_video


def read_speech(case: Case) -> np.ndarray:
    """(S,) float32 at 16 kHz.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        sound = read_sound(case.speech, rate=RATE)
    except MediaError as error:
        raise UserError(f"speech: {error}") from error
    if len(sound) < RATE // 25:
        raise UserError(f"speech {case.speech}: lasts {len(sound) / RATE:.3f} s, less than one frame")
    return sound


def padded_length(samples: int, speech: Speech) -> int:
    """How many samples the system must get, so that it does not stumble over their number."""
    seconds = samples / RATE
    if speech.longer_than is not None and seconds <= speech.longer_than:
        return round((speech.longer_than + speech.padding) * RATE)
    if speech.no_multiple_of is not None:
        # The system counts frames at 30 per second, rounded up, so a little less than a multiple is one too.
        over = seconds % speech.no_multiple_of
        if over == 0 or speech.no_multiple_of - over <= 1 / 25:
            return samples + round(speech.padding * RATE)
    return samples


def _portrait(job: Inputs) -> Path:
    path = job.folder / f"{job.case.slug}.png"
    Image.fromarray(job.framing.picture).save(path)
    landmarks = job.case.portrait.with_suffix(".csv")
    if job.system.portrait.crops_itself and landmarks.is_file():
        shutil.copy(landmarks, path.with_suffix(".csv"))
    return path


def _speech(job: Inputs) -> Path:
    path = job.folder / f"{job.case.slug}.wav"
    length = padded_length(len(job.sound), job.system.speech)
    if length > len(job.sound):
        job.notes.append(
            f"{(length - len(job.sound)) / RATE:.2f} s of silence were added for the system, and cut off again"
        )
    samples = np.pad(job.sound, (0, length - len(job.sound)))
    job.given = length / RATE
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def _driving_faces(job: Inputs) -> Path:
    """PC-AVS aligned frames at 25 fps in a folder that holds nothing else."""
    video, folder = job.driving(), job.folder / "driving"
    matrices = alignment(job.tools.faces.in_video(video))
    folder.mkdir()
    for index, frame in enumerate(FrameReader(video)):
        Image.fromarray(warp_face(frame, matrices[index])).save(folder / f"{index:06d}.png", compress_level=1)
    return folder


def _style(job: Inputs) -> Path:
    return _mat(job, "style", job.case.style)


def _pose(job: Inputs) -> Path:
    return _mat(job, "pose", job.case.pose)


def _mat(job: Inputs, name: str, own: Path | None) -> Path:
    rate = job.system.mat_rate
    assert rate is not None
    if own is not None:
        found = read_mat(own, probe(job.driving()).duration)
        track = found.resampled(rate)
        job.notes.append(f"{name}: {own.name}, {len(found)} rows, {found.rate:g} per second")
    else:
        track = _driving_coefficients(job).resampled(rate)
        job.notes.append(f"{name}: of {job.driving().name}, by Deep3DFaceRecon, {len(track)} rows")
    if name == "pose":
        track = track.extended(int(np.ceil(frames_of(len(job.sound), RATE) / 25 * rate)) + 1)
    path = job.folder / f"{name}.mat"
    write_mat(path, track)
    return path


def _driving_coefficients(job: Inputs) -> Coefficients:
    video = job.driving()
    kept = job.folder / "driving.mat"
    if kept.exists():
        return read_mat(kept, probe(video).duration)
    network, size = job.tools.deep3d(), job.system.portrait.size or 256
    with job.tools.faces.lock:
        track = job.tools.faces.in_video(video)
        box = square_crop(first_frame(track), FrameReader(video).size, HEAD_SCALE)
        try:
            found = extract(network, video, track, box, size)
        except ValueError as error:
            raise UserError(f"{video.name}: {error}") from error
    write_mat(kept, found)
    return found


def _phonemes(job: Inputs) -> Path:
    if job.case.phonemes is None:
        found = from_intervals(recognise(job.sound, RATE), job.seconds)
        job.notes.append("phonemes: heard by pocketsphinx, without a transcript")
    else:
        found = phonemes_of(job.case.phonemes, job.seconds)
        job.notes.append(f"phonemes: {job.case.phonemes.name}")
    path = job.folder / "phonemes.json"
    path.write_text(json.dumps(found))
    return path


def _run(name: str) -> Callable[[Inputs], str]:
    def named(job: Inputs) -> str:
        if name not in job.tools.runs:
            raise UserError(f"{job.system.title} needs a trained run: add {name}=RUN")
        return job.tools.runs[name]

    return named


_MAKERS: dict[str, Callable[[Inputs], Path | str]] = {
    "portrait": _portrait,
    "speech": _speech,
    "driving_video": Inputs.driving,
    "driving_faces": _driving_faces,
    "style_mat": _style,
    "pose_mat": _pose,
    "phonemes": _phonemes,
    "ethd": _run("ethd"),
}
