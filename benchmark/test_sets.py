"""Makes the test sets of Table 1 and the lists of cases for each system: ``python -m benchmark.test_sets SET``.

    hdtf, mead   test speakers of the project's split (MEAD: M003, M030, W009, W015, which no system was trained on)
    mini         every clip of any folder of talking-head videos
    synthetic    held-out synthetic speakers; needs no source

    python -m benchmark.test_sets hdtf source=HDTF output=cases/hdtf [split=emotivetalk|peer] [annotations=DIR]
    python -m benchmark.test_sets mead source=MEAD output=cases/mead [split=emotivetalk|peer|official] [views=front,top]
    python -m benchmark.test_sets mini source=DIR output=cases/mini
    python -m benchmark.test_sets synthetic output=cases/synthetic [seconds=5]

For all sets, frames=N cuts clips to their first N frames at 25 fps, and clips=N takes at most N clips, spread evenly.

The portrait of a case is the first frame of its clip, the speech is its sound. In mode A there is no emotion source; in
mode A+V the clip itself is the driving video. ``python -m benchmark.run_system`` reads ``cases_*.csv``;
``generate.py batch=`` reads ``batch_*.csv``. ``test_set.json`` lists the clips with hashes, and the reasons why others
are not used.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.sidecars import copy_sidecars
from configs.errors import ConfigError
from configs.options import Readers, count, path, read_command, read_options, run_script, seconds
from configs.preparation import DatasetConfig
from datamodules.splits import named_splits, read_split
from encoders.protocols import FPS, SAMPLE_RATE
from media import FrameReader, MediaError, VideoWriter, probe, read_sound
from preparation.clip_source import ClipSource
from preparation.layouts import find_clips
from preparation.prepare_clip import loudest_second
from preparation.synthetic import EMOTIONS, held_out_people, render_clip, write_speaker
from preparation.synthetic.write import factors_path, landmarks_path
from runtime.errors import UserError
from runtime.files import sha256_of, write_whole
from runtime.ownership import claim

SCHEMA = "emotivetalk.test_set/1"
SENTENCES = 9_000_000  # first sentence number of synthetic clips; no training set uses it: its own numbers are hashes
SIZE = 128  # pixels of each side of synthetic videos
SETS = {"hdtf": "hdtf", "mead": "mead", "mini": "folder", "synthetic": "folder"}  # set -> layout of its source folder
MODES = {"A": "cases_A.csv", "A+V": "cases_AV.csv"}
LISTS = [*MODES.values(), *(name.replace("cases", "batch") for name in MODES.values()), "test_set.json"]
CASE_COLUMNS = ("clip", "portrait", "speech", "video", "emotion.video")
BATCH_COLUMNS = ("portrait", "speech", "output", "emotion.video")
SECONDS = 5.0  # default length of a synthetic clip
DEFAULT_CLIPS = 8  # default number of synthetic clips
SILENT = -60.0  # dBFS of the loudest second; below it there is no speech, as in prepare.py
CLEAN = 10  # x264's CRF of cut videos; they serve as real videos, so compression must not show


@dataclass
class TestSet:
    """Clips of a test set.

    Attributes:
        name: hdtf, mead, mini or synthetic.
        split: Name and SHA-256 of the split's lists, or None if every clip is used.
        clips: One entry per clip, sorted: key, speaker, source, frames and files.
        rejected: Clip -> reason why it is not used.
        ignored: Kind of ignored file in the source folder -> count.
    """

    __test__ = False

    name: str
    split: dict[str, str] | None
    clips: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of clip names, real videos and speech. Equal hashes mean the same task."""
        rows = [[clip["clip"], clip["video_sha256"], clip["speech_sha256"]] for clip in self.clips]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Returns the content of ``test_set.json``."""
        return {
            "schema": SCHEMA,
            "set": self.name,
            "split": self.split,
            "sha256": self.sha256,
            "clips": self.clips,
            "rejected": self.rejected,
            "ignored": self.ignored,
        }


def make_test_set(
    name: str,
    source: Path,
    output: Path,
    split: str = "emotivetalk",
    annotations: Path | None = None,
    views: Sequence[str] = ("front",),
    frames: int | None = None,
    clips: int | None = None,
) -> TestSet:
    """Finds the test clips of a folder and writes their portraits, speech and lists of cases.

    Args:
        name: hdtf, mead, mini or synthetic.
        source: Folder of the raw videos.
        output: Folder of the test set.
        split: Split whose test clips are used, for hdtf and mead.
        annotations: HDTF's annotation files, if ``source`` has uncut downloads.
        views: MEAD's camera views.
        frames: Length that every clip is cut to, in frames at 25 fps (Table 3); shorter clips are rejected.
        clips: Largest number of clips, spread evenly over the sorted list; None for all.

    Raises:
        UserError: If the folder has no clip of the set, or the output cannot be written.
        LayoutError: If the folder cannot be read as the dataset.
    """
    layout = SETS[name]
    dataset = DatasetConfig(
        name=layout,
        annotations=None if annotations is None else str(annotations),
        views=list(views) if layout == "mead" else [],
        split=split if layout != "folder" else "train",
    )
    found = find_clips(dataset, source)
    test = TestSet(name, _split_of(layout, split), ignored=dict(found.ignored))
    unknown = [clip for clip in found.clips if clip.problem is not None and not clip.speaker]
    wanted = [clip for clip in found.clips if layout == "folder" or clip.split == "test" or clip in unknown]
    usable = []
    try:
        for folder in ("portraits", "speech"):
            (output / folder).mkdir(parents=True, exist_ok=True)
        for clip in wanted:
            try:
                _require_fit(clip, frames)
                usable.append(clip)
            except (MediaError, UserError) as error:
                test.rejected[clip.key] = str(error)
        taken = spread(usable, clips)
        if taken:
            claim(output, [name for clip in taken for name in _names(clip)] + LISTS, f"output={output}")
        for clip in taken:
            try:
                test.clips.append(_make(clip, output, frames))
            except MediaError as error:
                test.rejected[clip.key] = str(error)
        if left := len(usable) - len(test.clips) - len(set(test.rejected) & {clip.key for clip in usable}):
            test.ignored[f"usable clips beyond the {clips} asked for"] = left
        if test.clips:
            _write_lists(test, output)
    except OSError as error:
        raise UserError(f"output={output}: cannot be written ({error.strerror})") from error
    if not test.clips:
        why = next(iter(test.rejected.values()), f"none of its {len(found.clips)} clips shows a test speaker")
        raise UserError(f"source={source}: gives no clip for the set {name}: {why}")
    return test


def _split_of(layout: str, scheme: str) -> dict[str, str] | None:
    file = named_splits(layout).get(scheme)
    if layout == "folder" or file is None:
        return None
    return {"name": file, "sha256": read_split(file).sha256}


def spread(clips: Sequence[ClipSource], count: int | None) -> list[ClipSource]:
    """Selects ``count`` clips at equal distances."""
    if count is None or count >= len(clips):
        return list(clips)
    return [clips[place * len(clips) // count] for place in range(count)]


def _require_fit(clip: ClipSource, frames: int | None) -> None:
    """Checks that a clip can be used.

    Raises:
        MediaError: If it cannot be read.
        UserError: If it is too short, silent, or was rejected by its dataset.
    """
    if clip.problem is not None:
        raise UserError(clip.problem_detail)
    end, info = _end(clip, frames), probe(clip.path)
    if end is not None and end > min(clip.end or info.duration, info.duration) + 0.5 / FPS:
        lasts = min(clip.end or info.duration, info.duration) - clip.start
        raise UserError(
            f"lasts {lasts:.2f} s, too short for {'its span' if frames is None else f'the first {frames} frames'}"
        )
    sound = read_sound(clip.audio or clip.path, start=clip.start, end=end, rate=SAMPLE_RATE)
    if loudest_second(sound) < SILENT:
        raise UserError("its sound is silent")


def _end(clip: ClipSource, frames: int | None) -> float | None:
    """End of the used part of the video, seconds."""
    return clip.end if frames is None else clip.start + frames / FPS


def _names(clip: ClipSource) -> list[str]:
    """Files of a clip in the output folder."""
    portrait, video = Path("portraits", f"{clip.key}.png"), Path("videos", f"{clip.key}.mp4")
    sidecars = [make(path) for path in (portrait, video) for make in (landmarks_path, factors_path)]
    return [path.as_posix() for path in (portrait, video, *sidecars, Path("speech", f"{clip.key}.wav"))]


def _make(clip: ClipSource, output: Path, frames: int | None) -> dict[str, Any]:
    """Writes the portrait and speech of a clip, and the clip itself if it is part of a longer video.

    Raises:
        MediaError: If it cannot be read.
    """
    end, info = _end(clip, frames), probe(clip.path)
    reader = FrameReader(clip.path, start=clip.start, end=end, fps=FPS)
    reader.check()
    sound = read_sound(clip.audio or clip.path, start=clip.start, end=end, rate=SAMPLE_RATE)
    portrait, speech = output / "portraits" / f"{clip.key}.png", output / "speech" / f"{clip.key}.wav"
    crop = clip.crop_in(info.width, info.height)
    pictures = (_cut(frame, crop) for frame in reader)
    first = next(pictures)
    write_whole(portrait, _png(first))
    write_whole(speech, _wav(sound))
    begin = round(clip.start * FPS)
    if crop is None:
        copy_sidecars(clip.path, portrait, begin, 1)
    video = clip.path
    if clip.start or end is not None or crop is not None:
        video = output / "videos" / f"{clip.key}.mp4"
        video.parent.mkdir(exist_ok=True)
        with VideoWriter(video, size=(first.shape[1], first.shape[0]), fps=FPS, sound=sound, crf=CLEAN) as writer:
            writer.write(first)
            for picture in pictures:
                writer.write(picture)
        if crop is None:
            copy_sidecars(clip.path, video, begin, len(reader))
    return {
        "clip": clip.key,
        "speaker": clip.speaker,
        "source": clip.name,
        "frames": len(reader),
        "portrait": str(portrait.absolute()),
        "speech": str(speech.absolute()),
        "video": str(video.absolute()),
        "video_sha256": sha256_of(video),
        "speech_sha256": sha256_of(speech),
    }


def _cut(frame: np.ndarray, crop: tuple[int, int, int, int] | None) -> np.ndarray:
    """Cuts the annotated crop from a frame, with even sides as H.264 requires."""
    left, top, width, height = crop or (0, 0, frame.shape[1], frame.shape[0])
    return np.ascontiguousarray(frame[top : top + height - height % 2, left : left + width - width % 2])


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _wav(sound: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _write_lists(test: TestSet, output: Path) -> None:
    for mode, name in MODES.items():
        rows = []
        for clip in test.clips:
            driving = clip["video"] if mode == "A+V" else ""
            rows.append({**clip, "emotion.video": driving, "output": f"{clip['clip']}.mp4"})
        write_whole(output / name, _table(CASE_COLUMNS, rows))
        write_whole(output / name.replace("cases", "batch"), _table(BATCH_COLUMNS, rows))
    text = json.dumps(test.record(), indent=1, ensure_ascii=False) + "\n"
    write_whole(output / "test_set.json", text)


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def draw_clips(folder: Path, clips: int, seconds: float) -> None:
    """Writes clips of held-out synthetic speakers, alternating speakers and emotions."""
    people = held_out_people()
    drawn = [(people[number % len(people)], EMOTIONS[number % len(EMOTIONS)]) for number in range(clips)]
    videos = [Path(f"{number:03d}_{person.name}_{emotion}.mp4") for number, (person, emotion) in enumerate(drawn)]
    files = [path.name for video in videos for path in (video, landmarks_path(video), factors_path(video))]
    claim(folder.parent, [f"{folder.name}/{file}" for file in files], f"output={folder.parent}")
    for number, (person, emotion) in enumerate(drawn):
        clip = render_clip(person, emotion, 1, SENTENCES + number, seconds, SIZE)
        write_speaker(folder / videos[number], clip, clip.sound)


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and makes the test set.

    Raises:
        UserError: If it cannot be made.
    """
    name = read_command(__doc__, arguments, SETS)
    known: Readers = {
        **{"source": path, "output": path, "split": str, "annotations": path, "views": _views},
        **{"frames": count, "clips": count, "seconds": seconds},
    }
    options = read_options(__doc__, arguments[1:], known, required=("output",))
    output, length = options["output"], options.pop("seconds", SECONDS)
    if ("source" in options) == (name == "synthetic"):
        reason = "takes no source" if "source" in options else "needs source=FOLDER of the raw videos"
        raise ConfigError(f"{name}: {reason}")
    if name == "synthetic":
        if length < 1:
            raise ConfigError(f"seconds={length}: expected at least 1 second")
        options["source"] = output / "drawn"
        draw_clips(options["source"], options.get("clips", DEFAULT_CLIPS), length)
    test = make_test_set(name, **options)
    for clip, reason in test.rejected.items():
        print(f"not used: {clip}: {reason}")
    if test.ignored:
        print("ignored: " + ", ".join(f"{number} {what}" for what, number in test.ignored.items()))
    people = "" if test.split is None else f" of {len({clip['speaker'] for clip in test.clips})} people"
    print(f"{test.name}: {len(test.clips)} clips{people}, {len(test.rejected)} not used, {test.sha256[:12]}")
    print(f"cases  {', '.join(str(output / file) for file in MODES.values())}")


def _views(value: str) -> list[str]:
    return value.split(",") if value else []


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
