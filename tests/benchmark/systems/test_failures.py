"""Failures of systems and cases: one clear reason per clip, and the other clips are still generated."""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from benchmark.process import Stopped, run_program
from benchmark.system import load_system
from benchmark.workspace import failure_reason, last_line
from tests.helpers.cases import TALKS, face_csv, write_cases
from tests.helpers.files import touch
from tests.helpers.videos import write_video

FIRST = TALKS[0].name


@pytest.fixture
def one(rows):
    """Returns one(column=value) -> path of a list with the first case and these changes."""
    folder, all_rows = rows

    def write(**changed):
        name = "-".join(changed) or "plain"
        return str(write_cases(folder / f"one {name}.csv", [{**all_rows[0], **changed}]))

    return write


def reason(made):
    status, records = made
    assert status == 3
    record = records[FIRST]
    assert record["status"] == "failed"
    assert record["video"] is None
    return record["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "wanted"),
    [
        ("nothing", "wrote no video (exit status 0): last output: Something is not right, but never mind."),
        ("package", "its environment lacks the package a_package_nobody_has"),
        ("black", "its video is black in 35 of 35 frames"),
        ("short", "its video lasts 0.44 s, expected 1.40 s"),
    ],
)
def test_a_bad_video_fails_whatever_the_exit_status(make_clips, one, tmp_path, monkeypatch, trouble, wanted):
    monkeypatch.setenv("STUB_TROUBLE", trouble)
    assert wanted in reason(make_clips("sadtalker", tmp_path, cases=one()))
    assert not list((tmp_path / "videos").rglob("*.mp4"))
    assert (tmp_path / "logs" / f"{FIRST}.txt").exists()


@pytest.mark.slow
def test_a_time_limit_is_enforced_and_reported(make_clips, one, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_TROUBLE", "hang")
    start = time.monotonic()
    message = reason(make_clips("sadtalker", tmp_path, cases=one(), clip_timeout=1.5))
    assert message == "took longer than 1.5 s and was stopped; last output: working on it"
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_a_failed_clip_is_generated_again(make_clips, one, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_TROUBLE", "nothing")
    reason(make_clips("styletalk", tmp_path, cases=one()))
    monkeypatch.delenv("STUB_TROUBLE")
    status, records = make_clips("styletalk", tmp_path, cases=one())
    assert (status, records[FIRST]["status"], records[FIRST]["reason"]) == (0, "done", None)


@pytest.mark.slow
def test_a_bad_case_does_not_affect_others(make_clips, rows, tmp_path):
    folder, (row, _) = rows
    Image.new("RGB", (256, 256)).save(folder / "dark.png")
    face_csv(folder / "dark.csv", 1)
    cases = write_cases(folder / "list with dark.csv", [{**row, "clip": "dark", "portrait": "dark.png"}, row])
    status, records = make_clips("hallo", tmp_path, cases=str(cases))
    assert status == 3
    assert records["dark"]["reason"] == "Hallo found no face and animated the whole picture without one"
    assert records[FIRST]["status"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "changed", "wanted"),
    [
        ("sadtalker", {"portrait": "nobody.png"}, "nobody.png: no such file"),
        ("sadtalker", {"portrait": "case 0.wav"}, "is not a picture"),
        ("sadtalker", {"speech": "case 0.png"}, "speech: "),
        ("pdfgc", {"emotion.video": ""}, "needs a driving video; the case has no emotion.video"),
        ("styletalk", {"pose": "case 0.json"}, "cannot be read as a MATLAB 5 file"),
        ("dreamtalk", {"style": "case 1.mat"}, "25 rows for a video of 1.40 s are 17.9 per second"),
        ("ground_truth", {"video": ""}, "has no real video"),
    ],
)
def test_a_missing_or_damaged_input_is_named(make_clips, one, tmp_path, system, changed, wanted):
    assert wanted in reason(make_clips(system, tmp_path, cases=one(**changed)))


def test_missing_phonemes_and_recogniser_give_both_options(make_clips, one, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    message = reason(make_clips("styletalk", tmp_path, cases=one(phonemes="")))
    assert "StyleTalk needs phonemes. Add a column phonemes" in message
    assert "or pip install pocketsphinx" in message


def test_missing_3dmm_weights_are_named(make_clips, one, tmp_path, monkeypatch):
    for name in ("EMOTIVETALK_WEIGHTS", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
    message = reason(make_clips("dreamtalk", tmp_path / "out", cases=one(style="")))
    assert "needs 3DMM coefficients of the driving video" in message
    assert "epoch_20.pth" in message


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"repository": None}, "SadTalker is not part of this project: add repository=PATH"),
        ({"repository": "/nowhere/SadTalker"}, "repository=/nowhere/SadTalker: no such folder"),
        ({"repository": "anitalker"}, "has no src/test_audio2coeff.py; expected a checkout of https://github.com/"),
        ({"python": "/nowhere/python"}, "python=/nowhere/python: cannot be run"),
        ({"python": None}, "lacks face_alignment"),
        ({"scratch": "/tmp/with space"}, "contains ' '"),
        ({"scratch": "/tmp/with(1)"}, "contains '('; several systems pass paths to a shell"),
    ],
)
def test_an_unusable_installation_is_every_clips_reason(make_clips, repositories, one, tmp_path, keys, wanted):
    keys = {name: str(repositories[value]) if value in repositories else value for name, value in keys.items()}
    assert wanted in reason(make_clips("sadtalker", tmp_path, cases=one(), **keys))


def test_missing_weights_of_a_system_are_named(make_clips, repositories, one, tmp_path):
    repository = touch(tmp_path / "repo", "lib/inferencer.py", "inference.py")
    message = reason(make_clips("pdfgc", tmp_path / "out", cases=one(), repository=str(repository)))
    assert "lacks checkpoints; weights: Google Drive" in message
    message = reason(make_clips("pdfgc", tmp_path / "out", cases=one(), device="cpu"))
    assert "device=cpu: PD-FGC does not support it; it runs on cuda" in message


def test_another_version_of_a_patched_script_is_refused(make_clips, repositories, one, tmp_path):
    script = repositories["dreamtalk"] / "inference_for_demo_video.py"
    whole = script.read_text()
    try:
        script.write_text(whole.replace("# add watermark", "# add a mark"))
        message = reason(make_clips("dreamtalk", tmp_path, cases=one()))
    finally:
        script.write_text(whole)
    assert "0 lines contain '# add watermark', expected one: this is another version" in message
    assert "burn a watermark" in message


@pytest.mark.slow
def test_finished_videos_are_evaluated_as_a_system(make_clips, rows, cases, tmp_path):
    folder = tmp_path / "theirs"
    for talk in TALKS:  # at 50 fps, the result on the right
        levels = [(255 - index, 2 * index) for index in range(round(talk.seconds * 50))]
        frames = [np.tile(np.repeat(np.uint8(pair), 256)[:, None], (256, 1, 3)) for pair in levels]
        write_video(folder / f"{talk.name}.mp4", frames, fps=50)
    keys = {"videos": str(folder), "title": "Theirs", "panel": [256, 0, 256, 256]}
    status, records = make_clips("folder", tmp_path / "out", **keys)
    assert status == 0
    expected = {"file": "first.mp4", "sha256": None, "frames": 35, "width": 256, "height": 256, "offset": 0}
    expected["encoding"] = "H.264 crf 8 4:2:0"
    assert records[FIRST]["video"] | {"sha256": None} == expected
    write_video(folder / "first.mp4", [np.full((256, 512, 3), 99, np.uint8)] * 35)  # the video changes
    anew = make_clips("folder", tmp_path / "out", **keys)[1][FIRST]
    assert anew["video"]["sha256"] != records[FIRST]["video"]["sha256"]
    (folder / "first.mp4").unlink()
    status, records = make_clips("folder", tmp_path / "other", **keys)
    assert "has 0 videos named first" in reason((status, records))
    assert json.loads((tmp_path / "out/records/first.json").read_text())["system"]["title"] == "Theirs"


@pytest.mark.slow
def test_parts_generate_each_clip_once(make_clips, tmp_path):
    assert len(make_clips("ground_truth", tmp_path, part="1/2")[1]) == 1
    both = make_clips("ground_truth", tmp_path, part="2/2")[1]
    assert {record["status"] for record in both.values()} == {"done"}
    assert set(both) == {talk.name for talk in TALKS}


@pytest.mark.slow
def test_a_changed_input_or_a_damaged_video_is_generated_again(make_clips, rows, one, tmp_path):
    def fingerprint():
        return make_clips("ground_truth", tmp_path, cases=one())[1][FIRST]["fingerprint"]

    video = tmp_path / "videos" / f"{FIRST}.mp4"
    before = fingerprint()
    made = video.stat().st_mtime_ns
    assert (fingerprint(), video.stat().st_mtime_ns) == (before, made)
    video.write_bytes(b"cut")
    assert fingerprint() == before
    assert video.stat().st_size > 1000
    wav = rows[0] / "case 0.wav"
    kept = wav.read_bytes()
    try:
        wav.write_bytes(kept[:-640])
        assert fingerprint() != before
    finally:
        wav.write_bytes(kept)


@pytest.mark.slow
def test_a_stopped_run_ends_its_programs_and_their_children(tmp_path):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    command = ["sh", "-c", f"(sleep 1; touch {tmp_path}/alive) & sleep 60"]
    with pytest.raises(Stopped):
        run_program(command, tmp_path, {}, tmp_path / "log", 50, stop)
    time.sleep(1.2)
    assert not (tmp_path / "alive").exists()


@pytest.mark.slow
def test_memory_and_time_are_measured(tmp_path):
    command = ["python3", "-c", "x = bytearray(300 << 20); import time; time.sleep(0.3)"]
    path = {"PATH": "/usr/bin:/bin:/usr/local/bin"}
    ended = run_program(command, tmp_path, path, tmp_path / "log", 50, threading.Event())
    assert (ended.status, ended.timed_out) == (0, False)
    assert ended.peak_mib > 300
    assert ended.seconds >= 0.3


def test_reasons_are_found_in_a_programs_output():
    message = "AttributeError: module 'numpy' has no attribute 'float'."
    assert failure_reason(load_system("pdfgc"), message) == "its environment needs numpy below 1.24"
    assert last_line("10%\r50%\rKilled\n\n") == "Killed"
    assert last_line("") == "none"
