"""prepare.py in a shell: killed, in parts, and on damaged files."""

import csv
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from datamodules.schema import Index
from media import read_frames
from preparation.check import check
from preparation.synthetic import write_dataset
from tests.helpers import ROOT, warm
from tests.helpers.prepare_command import command, made, prepare, report
from tests.helpers.processes import children
from tests.helpers.sound import sound_frame
from tests.helpers.videos import copy_packets, write_video

pytestmark = pytest.mark.slow

AWKWARD = "Müller's (1) #raw! 寒い 100%"


def content(folder: Path) -> dict[str, bytes]:
    """Returns the bytes that must not depend on the course of the work."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar")) + [folder / "index.json"]}


@pytest.fixture(scope="session")
def raw(once) -> Path:
    """Twelve short clips of six synthetic speakers in MEAD's layout, in a folder with special characters."""
    settings = {"layout": "mead", "identities": 6, "clips_per_identity": 2, "seconds": 1.2, "size": 96, "seed": 3}
    return once(f"raw {AWKWARD}", lambda folder: write_dataset(folder, **settings))


MEAD = {"dataset": "mead", "preset": "tiny", "shard_bytes": 3_500_000}


@pytest.fixture(scope="session")
def whole(raw, once) -> Path:
    """Output of an uninterrupted run. It starts cold, and so with another hash seed than the warm runs."""

    def make(output: Path) -> None:
        arguments = command(**MEAD, source=raw, output=output, workers=2)
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr

    return once(f"whole {AWKWARD}", make)


def test_shards_of_synthetic_speakers_are_valid(whole):
    index = Index.read(whole)
    assert check(whole) == []
    assert len(index.samples) == 12
    assert len(index.shards) > 2
    assert {sample.frames for sample in index.samples} == {30}
    assert {clip["status"] for clip in report(whole).values()} == {"kept"}
    assert (whole / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"
    done = prepare(task="check", output=whole)
    assert (done.returncode, "frames: valid" in done.stdout.replace("\n", " ")) == (0, True)


def test_a_second_run_changes_nothing(whole, raw):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*.tar")}
    assert prepare(**MEAD, source=raw, output=whole, workers=1).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in whole.glob("*.tar")} == before


def test_other_settings_in_the_same_output_are_refused(whole, raw):
    done = prepare(**MEAD, source=raw, output=whole, face__scale=2.0)
    assert done.returncode == 1
    assert "face.scale was 1.7, now 2.0" in done.stderr


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_give_the_bytes_of_the_unpacked_folder(whole, raw, tmp_path, kind):
    """MEAD's archives of each actor, not compressed, or compressed as copies are; nothing is unpacked to the source."""
    source = tmp_path / "packed"
    for folder in sorted(path for path in raw.iterdir() if path.is_dir()):
        source.mkdir(exist_ok=True)
        shutil.make_archive(str(source / folder.name), kind, root_dir=raw, base_dir=folder.name)
    before = sorted(source.rglob("*"))
    done = prepare(**MEAD, source=source, output=tmp_path / "output", workers=1)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "output") == content(whole)
    assert sorted(source.rglob("*")) == before


@pytest.mark.nightly
def test_three_parts_give_the_bytes_of_one_run(whole, raw, tmp_path):
    keys = {**MEAD, "source": raw, "output": tmp_path, "workers": 1}
    parts = [warm.Popen(command(**keys, part=f"{part}/3"), cwd=ROOT) for part in (1, 2, 3)]
    assert [part.wait(280) for part in parts] == [0, 0, 0]
    assert content(tmp_path) == content(whole)


@pytest.mark.parametrize(("times", "finished"), [(1, 0), pytest.param(12, -1, marks=pytest.mark.nightly)])
def test_a_run_killed_at_any_point_finishes_with_the_same_bytes(whole, raw, tmp_path, times, finished):
    def records():
        return len(list((tmp_path / "parts").glob("mead-*.json")))

    kills = np.random.default_rng(5)
    for _ in range(times):
        process = warm.Popen(command(**MEAD, source=raw, output=tmp_path, workers=1), cwd=ROOT)
        deadline = time.monotonic() + 120
        # Wait until it has got further than the run before, and then for a random time.
        while process.poll() is None and time.monotonic() < deadline and records() <= finished:
            time.sleep(0.02)
        time.sleep(kills.uniform(0, 0.6))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for tar in tmp_path.glob("*.tar"):  # no file with a final name is incomplete
            assert tar.read_bytes() == (whole / tar.name).read_bytes()
        finished = records()
    assert prepare(**MEAD, source=raw, output=tmp_path, workers=1).returncode == 0
    assert content(tmp_path) == content(whole)
    assert not list(tmp_path.glob(".*partial"))


def test_a_killed_worker_does_not_change_the_result(whole, raw, tmp_path):
    process = warm.Popen(command(**MEAD, source=raw, output=tmp_path, workers=1), cwd=ROOT)
    while process.poll() is None and not list(tmp_path.glob("mead-*.tar")):
        time.sleep(0.02)
    for worker in children(process.pid, "spawn_main"):
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    assert process.wait(200) == 0
    assert content(tmp_path) == content(whole)


@pytest.mark.parametrize("killed", [False, True])
def test_two_encoder_processes_give_the_bytes_of_none(whole, raw, tmp_path, killed):
    """They stand for two GPUs. Every process is killed once."""
    arguments = command(**MEAD, source=raw, output=tmp_path, workers=2, devices="[cpu,cpu]")
    process = warm.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if killed:
        while process.poll() is None and not list(tmp_path.glob("mead-*.tar")):
            time.sleep(0.02)
        for child in children(process.pid, "spawn_main"):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert content(tmp_path) == content(whole)
    assert {clip["status"] for clip in report(tmp_path).values()} == {"kept"}
    used = [line for line in errors.splitlines() if line.startswith("encoder ")]
    assert len(used) == 2
    if killed:
        assert all(line.endswith("started again 1 times") for line in used)
    else:
        frames = [int(line.split()[2]) for line in used]  # by the turns of each worker
        assert sum(frames) == 360
        assert min(frames) >= 90


@pytest.mark.parametrize("devices", ["[]", "[cpu]"])
def test_running_out_of_memory_ends_the_run(raw, tmp_path, devices):
    plugin = {"plugins": "[codec:tests.helpers.codecs.BrokenCodec]", "encoders__codec__name": "broken"}
    options = {"+encoders__codec__options__how": "always"}
    done = prepare(**MEAD, **plugin, **options, source=raw, output=tmp_path, workers=1, devices=devices)
    assert done.returncode == 1
    assert "there is not enough memory to prepare it (CUDA out of memory" in done.stderr.replace("\n", " ")
    assert not list((tmp_path / "parts").glob("mead-*.json"))  # no verdict on any clip
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize(
    "settings", [MEAD, pytest.param({"dataset": "synthetic", "preset": "tiny"}, marks=pytest.mark.nightly)]
)
def test_ctrl_c_while_workers_start_is_one_line(raw, tmp_path, settings):
    arguments = command(**settings, **({"source": raw} if settings is MEAD else {}), output=tmp_path, workers=2)
    process = warm.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (workers := children(process.pid, "spawn_main")):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)  # while they import
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert errors.strip().endswith("Stopped. Run the same command again to continue.")
    assert "Traceback" not in errors
    assert not any(worker.is_running() for worker in workers)


def remux(video: Path, sound: np.ndarray, path: Path) -> None:
    """Writes a video's pictures with another sound of any length, (S,) or (2, S)."""
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        pictures = target.add_stream_from_template(source.streams.video[0])
        sides = np.atleast_2d(sound)
        voice = target.add_stream("aac", rate=16000, layout="mono" if len(sides) == 1 else "stereo")
        copy_packets(source.demux(video=0), target, pictures)
        for piece in (sound_frame(sides, 16000), None):
            target.mux(voice.encode(piece))


# While speakers are rendered, and while clips are prepared.
@pytest.mark.parametrize(
    ("begun", "number"),
    [
        ("plan.json", signal.SIGKILL),
        ("*.mp4", signal.SIGTERM),
        pytest.param("*.mp4", signal.SIGKILL, marks=pytest.mark.nightly),
        pytest.param("plan.json", signal.SIGTERM, marks=pytest.mark.nightly),
    ],
)
def test_no_worker_outlives_an_ended_run(raw, tmp_path, number, begun):
    synthetic = {"dataset": "synthetic", "preset": "tiny", "dataset__split": "person"}
    keys = {**MEAD, "source": raw} if begun == "plan.json" else synthetic
    process = warm.Popen(command(**keys, workers=2, output=tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 200
    started: list[psutil.Process] = []
    while time.monotonic() < end and not (len(started) >= 2 and list(tmp_path.rglob(begun))):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        started = children(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    left = psutil.wait_procs(started, 30)[1]
    assert not left
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    if number == signal.SIGTERM:  # a process that was being started finds its killed parent's data cut short
        assert "Traceback" not in errors


def test_bad_clips_are_rejected_with_reasons_and_others_kept(raw, tmp_path):
    source, output = tmp_path / AWKWARD, tmp_path / "out"
    source.mkdir()
    good = sorted(raw.glob("*/video/front/*/*/*.mp4"))[0]
    sound = np.sin(np.arange(int(1.2 * 16000)) * 0.1).astype(np.float32) * 0.3
    landmarks = good.with_suffix(".csv").read_bytes()

    def place(name: str, voice: np.ndarray | None = sound) -> Path:
        path = source / f"{name}.mp4"
        softer = 1 - len(list(source.iterdir())) / 1000  # files of equal content would be duplicates
        shutil.copy(good, path) if voice is None else remux(good, voice * np.float32(softer), path)
        path.with_suffix(".csv").write_bytes(landmarks)
        return path

    place("good clip (1)")
    place("no track", None)
    place("silence", sound * 0)
    place("inverted", np.stack([sound, -sound]))
    place("half the sound", sound[:9000])
    cut = place("cut short")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    place("zero").write_bytes(b"")
    place("words").write_text("I am a text file.\n" * 100)
    place("no landmarks").with_suffix(".csv").unlink()
    head, *lines = csv.reader(landmarks.decode().splitlines(), skipinitialspace=True)

    def place_moved(name: str, change: Callable[[int, str, str], str]) -> None:
        """Replaces each cell of the landmarks by ``change(frame, column, cell)``."""
        with place(name).with_suffix(".csv").open("w", newline="") as file:
            rows = [[change(n, *pair) for pair in zip(head, row, strict=True)] for n, row in enumerate(lines)]
            csv.writer(file).writerows([head, *rows])

    place_moved("no face", lambda frame, column, cell: "0" if column == "success" else cell)
    place_moved("walks out", lambda frame, column, cell: str(float(cell) + 3 * frame) if column[:2] == "x_" else cell)
    write_video(source / "blink.mp4", [np.full((96, 96, 3), 90, np.uint8)] * 10, sound=sound[:6400])
    (source / "notes.txt").write_text("not a clip")

    done = prepare(dataset="folder", preset="tiny", source=source, output=output, workers=1)
    assert {name.removesuffix(".mp4"): clip["reason"] for name, clip in report(output).items()} == {
        "good clip (1)": None, "no track": "no_audio", "silence": "silent", "half the sound": "av_mismatch",
        "inverted": "cancelled_sound",
        "cut short": "decode_error", "zero": "decode_error", "words": "decode_error",
        "no landmarks": "no_landmarks", "no face": "no_face", "walks out": "face_leaves_frame", "blink": "too_short",
    }  # fmt: skip
    assert done.returncode == 3
    assert "max_rejected=0.5" in done.stderr
    assert "1 other files (.txt)" in done.stderr
    assert "Traceback" not in done.stderr
    assert check(output) == []

    silent = tmp_path / "silent"
    prepare(dataset="folder", preset="tiny", source=source, output=silent, workers=1, audio__required="false")
    kept = {name for name, clip in report(silent).items() if clip["status"] == "kept"}
    assert kept == {"good clip (1).mp4", "no track.mp4", "silence.mp4"}


def test_a_failed_clip_is_prepared_again_once_its_file_has_changed(raw, tmp_path):
    """Cuts between speakers and files of equal content are reported as well."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    good, other = sorted(raw.glob("*/video/front/*/*/*.mp4"))[::8][:2]
    sound = np.sin(np.arange(int(1.2 * 16000)) * 0.1).astype(np.float32) * 0.3
    joined = [*list(read_frames(good))[:15], *list(read_frames(other))[15:]]
    for name, path in (("good", good), ("cut", good), ("part", other)):
        shutil.copy(path.with_suffix(".csv"), source / f"{name}.csv")
        remux(path, sound, source / f"{name}.mp4")
    write_video(source / "cut.mp4", joined, sound=sound)
    for ending in (".mp4", ".csv"):
        shutil.copy(source / f"good{ending}", source / f"twin{ending}")
    part = source / "part.mp4"
    data = part.read_bytes()
    part.write_bytes(data[: len(data) // 2])
    settings = {"dataset": "folder", "preset": "tiny", "source": source, "output": output, "workers": 1}
    settings |= {"max_rejected": 0.9}
    done = prepare(**settings)
    clips = report(output)
    assert {name: clip["reason"] for name, clip in clips.items()} == {
        "good.mp4": None, "twin.mp4": "duplicate", "cut.mp4": "cuts", "part.mp4": "decode_error",
    }  # fmt: skip
    assert "cuts at 0.60 s" in clips["cut.mp4"]["detail"]
    assert clips["twin.mp4"]["detail"] == "has the same content as good.mp4"
    assert (done.returncode, "1 of 4 clips failed" in done.stderr.replace("\n", " ")) == (3, True)
    part.write_bytes(data)
    assert prepare(**settings).returncode == 0
    assert report(output)["part.mp4"]["status"] == "kept"
    assert check(output) == []


def test_a_full_disk_is_reported_and_can_be_continued(whole, raw, tmp_path):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    arguments = command(**MEAD, source=raw, output=tmp_path, workers=1)
    full = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, preexec_fn=little_room, timeout=280)
    assert full.returncode == 1
    assert "the disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list(tmp_path.glob("*.tar")) + list(tmp_path.glob(".*.partial"))
    assert prepare(**MEAD, source=raw, output=tmp_path, workers=1).returncode == 0
    assert content(tmp_path) == content(whole)


@pytest.mark.nightly
def test_a_hanging_clip_times_out_and_others_are_kept(tmp_path):
    source, output = tmp_path / "raw", tmp_path / "out"
    write_dataset(source, layout="hdtf", identities=2, clips_per_identity=1, seconds=1.2, size=96, seed=1)
    hanging, good = sorted(source.glob("*.mp4"))
    hanging.with_suffix(".csv").unlink()
    os.mkfifo(hanging.with_suffix(".csv"))  # reading it blocks forever
    done = prepare(dataset="hdtf", preset="tiny", source=source, output=output, workers=1, clip_timeout=3)
    assert {name: clip["reason"] for name, clip in report(output).items()} == {hanging.name: "timeout", good.name: None}
    assert done.returncode == 3
    assert "retry=true" in done.stderr


@pytest.mark.nightly
def test_a_moved_source_is_found_at_its_new_place(whole, raw, tmp_path):
    moved, output = tmp_path / "moved", tmp_path / "out"
    shutil.copytree(raw, moved)
    assert prepare(**MEAD, source=moved, output=output, workers=1, part="1/2").returncode == 0
    elsewhere = moved.rename(tmp_path / "elsewhere")
    assert prepare(**MEAD, source=elsewhere, output=output, workers=1, part="2/2").returncode == 0
    assert content(output) == content(whole)


def test_a_long_name_gets_a_key_that_fits(raw, tmp_path):
    source, output = tmp_path / "raw", tmp_path / "out"
    write_dataset(source, layout="hdtf", identities=1, clips_per_identity=1, seconds=1.2, size=96, seed=1)
    video = next(source.glob("*.mp4"))
    for file in list(source.glob(f"{video.stem}.*")):
        file.rename(source / ("long " * 40 + file.name.removeprefix(video.stem)))
    made(output, dataset="folder", preset="tiny", source=source, workers=1)


def test_an_unfinished_output_is_not_merged(whole, tmp_path):
    shutil.copytree(whole / "parts", tmp_path / "parts")
    record = sorted((tmp_path / "parts").glob("mead-*.json"))[0]
    record.unlink()
    done = prepare(task="merge", output=tmp_path)
    assert done.returncode == 1
    assert record.name.removesuffix(".json") in done.stderr


def test_an_output_that_cannot_be_written_is_refused(raw, tmp_path):
    (tmp_path / "file").touch()
    done = prepare(**MEAD, source=raw, output=tmp_path / "file" / "below")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.nightly
def test_the_synthetic_dataset_is_generated_with_its_factors(tmp_path):
    keys = {"dataset__identities": 3, "dataset__clips_per_identity": 1, "dataset__seconds": 1.2, "dataset__size": 96}
    index = made(tmp_path, dataset="synthetic", preset="tiny", **keys)
    assert {sample.split for sample in index.samples} == {"train", "test"}
    sample = next(sample for sample in index.samples if sample.split == "test")
    assert {"factors.npy", "video.mp4"} <= sample.members.keys()
    offset, size = sample.members["video.mp4"]
    (tmp_path / "crop.mp4").write_bytes((tmp_path / sample.shard).read_bytes()[offset : offset + size])
    frames = list(read_frames(tmp_path / "crop.mp4"))
    assert len(frames) == sample.frames
    assert frames[0].shape == (64, 64, 3)
