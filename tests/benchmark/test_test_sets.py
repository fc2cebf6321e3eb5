"""Test sets from small videos with the datasets' file names, and the reasons of runs without videos."""

import csv
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import not_run, test_sets
from benchmark.case_list import read_cases
from benchmark.tables.reading import NOT_RUN
from datamodules.splits import read_split
from media import read_frames
from preparation.synthetic import split_of
from runtime.errors import UserError
from tests.helpers.refusals import refuses
from tests.helpers.videos import write_video

FRAMES = 30


@pytest.fixture
def write(tmp_path):
    """Returns video(name, seed, sound, frames) -> a video of moving noise with a tone."""

    def video(name, seed=0, sound=True, frames=FRAMES):
        picture = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        tone = 0.3 * np.sin(np.arange(frames * 640) / (5 + seed)).astype(np.float32)
        moving = [np.roll(picture, 3 * frame, axis=1) for frame in range(frames)]
        return write_video(tmp_path / "raw" / name, moving, sound=tone if sound else None, crf=4)

    return video


def rows(path):
    return list(csv.DictReader(path.open()))


def test_hdtf_is_the_test_speakers_of_the_projects_split(write, tmp_path, capsys):
    split = read_split("hdtf_emotivetalk")
    tested, trained = split.persons["test"][0], split.persons["train"][0]
    real = write(f"WDA_{tested}1_003.mp4", 1)
    write(f"WDA_{trained}_000.mp4", 2)
    write("holiday.mp4", 3)
    out = tmp_path / "out"
    test_sets.main(["hdtf", f"source={tmp_path / 'raw'}", f"output={out}"])
    key = f"WDA_{tested}1_003"
    audio, both = rows(out / "cases_A.csv"), rows(out / "cases_AV.csv")
    assert [row["clip"] for row in audio] == [row["clip"] for row in both] == [key]
    assert audio[0]["emotion.video"] == ""
    assert both[0]["emotion.video"] == both[0]["video"] == str(real)
    asked = {mode: read_cases(out / f"cases_{mode}.csv") for mode in ("A", "AV")}  # as the runner reads them
    assert [(case.clip, case.driving_video) for case in asked["A"]] == [(key, None)]
    assert [(case.video, case.driving_video) for case in asked["AV"]] == [(real, real)]
    assert np.array_equal(np.asarray(Image.open(audio[0]["portrait"])), next(iter(read_frames(real))))
    with wave.open(audio[0]["speech"]) as speech:
        assert (speech.getframerate(), speech.getnchannels()) == (16_000, 1)
        assert speech.getnframes() == pytest.approx(FRAMES * 640, abs=640)
    record = json.loads((out / "test_set.json").read_text())
    assert record["split"] == {"name": "hdtf_emotivetalk", "sha256": split.sha256}
    assert [clip["speaker"] for clip in record["clips"]] == [tested]
    assert len(record["rejected"]) == 1  # holiday.mp4: its speaker is unknown
    assert "not the name of an HDTF clip" in capsys.readouterr().out
    batch = rows(out / "batch_AV.csv")[0]
    assert (batch["portrait"], batch["output"]) == (audio[0]["portrait"], f"{key}.mp4")
    again = tmp_path / "again"
    test_sets.main(["hdtf", f"source={tmp_path / 'raw'}", f"output={again}"])
    assert json.loads((again / "test_set.json").read_text())["sha256"] == record["sha256"]


def test_mead_is_the_four_unseen_actors_from_the_front(write, tmp_path):
    for number, actor in enumerate(("M003", "M030", "W009", "W015", "M005", "W011")):
        write(f"{actor}/video/front/happy/level_1/001.mp4", number)
    write("M003/video/top/happy/level_1/001.mp4", 9)
    test = test_sets.make_test_set("mead", tmp_path / "raw", tmp_path / "out")
    assert [clip["speaker"] for clip in test.clips] == ["M003", "M030", "W009", "W015"]
    assert test.split["name"] == "mead_emotivetalk"


def test_mini_uses_every_clip_with_speech_and_gives_reasons_for_others(write, tmp_path):
    write("a.mp4", 1)
    write("mute.mp4", 2, sound=False)
    (tmp_path / "raw" / "broken.mp4").write_bytes(b"no video at all")
    test = test_sets.make_test_set("mini", tmp_path / "raw", tmp_path / "out")
    assert [clip["clip"] for clip in test.clips] == ["a"]
    assert "has no sound track" in test.rejected["mute"]
    assert "broken.mp4" in test.rejected["broken"]
    assert test.split is None


def test_clips_are_cut_to_table_3s_lengths_and_short_ones_rejected(write, tmp_path):
    write("long.mp4", 1)
    write("short.mp4", 2, frames=20)
    test = test_sets.make_test_set("mini", tmp_path / "raw", tmp_path / "out", frames=25)
    clip = test.clips[0]
    assert clip["video"] == str(tmp_path / "out" / "videos" / "long.mp4")
    assert len(list(read_frames(clip["video"]))) == clip["frames"] == 25
    with wave.open(clip["speech"]) as speech:
        assert speech.getnframes() == 16_000
    assert test.rejected == {"short": "lasts 0.80 s, too short for the first 25 frames"}


def test_invalid_arguments_are_refused(write, tmp_path):
    write("WDA_Nobody_000.mp4")
    raw = f"source={tmp_path / 'raw'}"
    for arguments, message in (
        (["mead", f"source={tmp_path / 'nowhere'}"], "no such folder"),
        (["mead", raw], "gives no clip for the set mead"),
        (["hdtf", raw, "split=official"], "choose one of emotivetalk, peer"),
        (["mini", raw, "frames=0"], "frames=0: expected a whole number above 0"),
    ):
        refuses(UserError, message, test_sets.main, [*arguments, f"output={tmp_path / 'out'}"])


def test_the_reasons_of_a_run_without_clips_reach_the_tables(tmp_path):
    def record(run, clip, status, reason):
        path = tmp_path / run / "records" / f"{clip}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"system": "emotivetalk_av", "status": status, "reason": reason}
        path.write_text(json.dumps({"schema": not_run.RECORD, "record": entry, "system": {"driven": "A+V"}}))

    for clip, reason in (("a", "no repository"), ("b", "no repository"), ("c", "took too long")):
        record("none", clip, "failed", reason)
    record("some", "a", "failed", "took too long")
    record("some", "b", "done", None)
    output = tmp_path / "results" / "not_run.json"
    rest = ["dataset=mini", f"output={output}"]
    not_run.main([f"runs={tmp_path / 'none'},{tmp_path / 'some'}", *rest])
    reason = "no repository (2 of 3 clips); took too long (1 of 3 clips)"
    row = {"system": "emotivetalk", "dataset": "mini", "mode": "A+V", "reason": reason}
    assert json.loads(output.read_text()) == {"schema": NOT_RUN, "rows": [row]}
    refuses(UserError, "has no records", not_run.main, [f"runs={tmp_path}", *rest])


def test_a_limit_spreads_over_the_usable_clips_and_counts_the_rest(write, tmp_path, capsys):
    for number in range(6):
        write(f"{number}.mp4", number, sound=number != 2)
    out = tmp_path / "out"
    test_sets.main(["mini", f"source={tmp_path / 'raw'}", f"output={out}", "clips=2"])
    assert [row["clip"] for row in rows(out / "cases_A.csv")] == ["0", "3"]  # of 0, 1, 3, 4, 5
    printed = capsys.readouterr().out
    assert "3 usable clips beyond the 2 asked for" in printed
    assert "mini: 2 clips, 1 not used" in printed


@pytest.mark.slow
def test_synthetic_clips_show_test_speakers_and_sidecar_files_are_cut(tmp_path):
    out, cut = tmp_path / "out", tmp_path / "cut"
    test_sets.main(["synthetic", f"output={out}", "clips=2", "seconds=1.2"])
    clips = rows(out / "cases_AV.csv")
    assert [split_of(row["clip"].split("_")[1]) for row in clips] == ["test", "test"]
    rendered = Path(clips[0]["video"])
    test_sets.main(["mini", f"source={rendered.parent}", f"output={cut}", "frames=25"])
    asked = rows(cut / "cases_AV.csv")[0]
    long, short = rendered.with_suffix(".csv"), Path(asked["video"]).with_suffix(".csv")
    picture = Path(asked["portrait"]).with_suffix(".csv")
    tables = [np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2) for path in (long, short, picture)]
    assert [len(table) for table in tables] == [30, 25, 1]
    assert np.array_equal(tables[0][:25], tables[1])
    factors = [np.load(path.with_suffix(".factors.npz"))["values"] for path in (rendered, Path(asked["video"]))]
    assert np.array_equal(factors[0][:25], factors[1])
    refuses(UserError, "mini: needs source=", test_sets.main, ["mini", f"output={cut}"])
    refuses(UserError, "at least 1 second", test_sets.main, ["synthetic", f"output={cut}", "seconds=0.5"])
