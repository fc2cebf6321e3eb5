"""All seven systems end to end and at the same time, with stubs that reproduce their quirks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from media import probe, read_frames, read_sound
from tests.benchmark.systems.stubs.drawing import BITS, TICKS, picture
from tests.helpers.cases import CLICK, SCRIPTS, STEP, TALKS

FPS = {"aniportrait": 30, "styletalk": 30}
SIZES = {"sadtalker": 512, "aniportrait": 512, "hallo": 512, "pdfgc": 224}
OFFSETS = {"pdfgc": 2}
FEWER = {"pdfgc": 4}
NEAR = 28.0  # dB; frames are encoded twice, PD-FGC's also as JPEG


def listing(folder: Path) -> dict[str, int]:
    """Returns all files below a folder with their sizes."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(make_clips, repositories, tmp_path_factory):
    """Runs all seven systems at once with two workers each; exit status, records, output and repository listings."""
    output = tmp_path_factory.mktemp("clips")
    before = {name: listing(folder) for name, folder in repositories.items()}

    def one(name):
        return make_clips(name, output / name, workers=2)

    with ThreadPoolExecutor(len(SCRIPTS)) as pool:
        results = dict(zip(SCRIPTS, pool.map(one, SCRIPTS), strict=True))
    return output, results, before, {name: listing(folder) for name, folder in repositories.items()}


def clean(talk, name, index):
    """Returns the expected frame ``index`` of the normalised clip, computed independently of the product."""
    fps, offset = FPS.get(name, 25), OFFSETS.get(name, 0)
    source = round(index / 25 * fps)  # nearest frame of the system's own video
    seconds = (source + offset) / fps
    first, last = round(seconds * 16_000), round((source + offset + 1) / fps * 16_000)
    begin = round(talk.click * 16_000)
    return picture(seconds, SIZES.get(name, 256), np.array(talk.tint, np.uint8), first < begin + CLICK and begin < last)


def psnr(one, other):
    return 10 * np.log10(255**2 / max(((one.astype(float) - other) ** 2).mean(), 1e-9))


def time_shown(frame):
    """Decodes the time in seconds from the stripes."""
    height, width = frame.shape[:2]
    row = frame[height // 4].mean(-1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128) / TICKS


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("talk", TALKS, ids=["first", "second"])
def test_the_normalised_clip_shows_the_expected_frames(made, name, talk):
    output, results, _, _ = made
    status, records = results[name]
    record = records[talk.name]
    assert (status, record["status"], record["reason"]) == (0, "done", None)
    frames = list(read_frames(output / name / "videos" / f"{talk.name}.mp4"))
    assert len(frames) == round(talk.seconds * 25) - FEWER.get(name, 0)
    for index, frame in enumerate(frames):
        wanted = clean(talk, name, index)
        assert frame.shape == wanted.shape
        assert abs(time_shown(frame) - time_shown(wanted)) < 1e-9, f"frame {index} shows another time"
        assert psnr(frame, wanted) > NEAR, f"frame {index}"


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("talk", TALKS, ids=["first", "second"])
def test_the_clip_is_in_sync_with_its_sound(made, name, talk):
    path = made[0] / name / "videos" / f"{talk.name}.mp4"
    sound = read_sound(path)
    assert probe(path).fps == 25
    click = np.flatnonzero(np.abs(sound) > 0.4)[0] / 16_000
    seen = np.flatnonzero([frame[frame.shape[0] * 3 // 4 :].mean() > 200 for frame in read_frames(path)])[0] / 25
    assert click == pytest.approx(talk.click - OFFSETS.get(name, 0) / 25, abs=0.005)
    assert -1 / 25 - 1 / 60 <= seen - click <= 1 / 60  # within the frame of the click


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_real_video_is_written_in_the_same_framing(made, name):
    output, results, _, _ = made
    for talk in TALKS:
        record = results[name][1][talk.name]
        real = list(read_frames(output / name / "reference" / f"{talk.name}.mp4"))
        assert record["reference"]["frames"] == len(real) == round(talk.seconds * 25)
        assert real[0].shape == (SIZES.get(name, 256),) * 2 + (3,)
        reds = np.array([frame[..., 0].mean() for frame in real])
        assert (
            np.abs(reds - STEP * np.arange(len(real))).max() < 5
        )  # colours are converted twice; neighbouring frames differ by 7
        assert record["offset"] == OFFSETS.get(name, 0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_repository_is_not_changed(made, name):
    assert made[2][name] == made[3][name]


def test_the_record_holds_command_time_and_memory(made, interpreter):
    record = made[1]["hallo"][1]["first"]
    assert record["command"][:2] == [str(interpreter), "scripts/inference.py"]
    assert record["exit_status"] == 0
    assert record["seconds"] > 0.05
    assert 10 < record["peak_memory_mib"] < 10_000
    assert record["source"] == {"width": 512, "height": 512, "fps": 25.0, "seconds": 1.4}
    assert made[1]["aniportrait"][1]["first"]["source"]["width"] == 1544
    saved = json.loads((made[0] / "hallo" / "records" / "first.json").read_text())["system"]
    assert (saved["title"], saved["licence"], saved["described_commit"][:8]) == ("Hallo", "MIT", "8fd7c572")


def test_short_sound_is_padded_for_aniportrait_with_a_note(made):
    record = made[1]["aniportrait"][1]["first"]
    assert any("3.80 s of silence" in note for note in record["notes"])
    assert record["source"]["seconds"] == pytest.approx(5.2, abs=0.05)


def test_a_second_run_changes_nothing(made, make_clips):
    output = made[0] / "sadtalker"
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert make_clips("sadtalker", output)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before
