"""Choosing: counts, lists, and the clips that are encoded."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest

from configs.command_line import compose
from configs.preparation import PrepareConfig
from datamodules.schema import ShardError
from preparation.choice.choose_shots import choose_shots, chosen_clips, write_choice
from preparation.clip_source import ClipSource, Reason
from preparation.scan.columns import SCHEMA

GOOD = {
    "frames": 100, "start": 0.0, "end": 4.0, "shot": 0, "shots": 1, "width": 512, "height": 512, "span_px": 250.0,
    "face_share": 1.0, "face_gap": 0, "several": 0.0, "face_outside": 0.0, "frozen_frames": 1, "lip_motion": 0.03,
    "has_sound": True, "loudest": -20.0, "speech": 0.9, "silence_s": 0.0, "steady_tone": 0.0, "blur": 0.4,
    "border": 0.0,
}  # fmt: skip


def config(*settings: str) -> PrepareConfig:
    return compose("prepare", PrepareConfig, ["preset=paper", "dataset=folder", *settings])


def rows(*changes: dict) -> pa.Table:
    named = [
        {"clip": f"c{number}", "key": f"c{number}--s000", "source": f"c{number}.mp4"} | GOOD | change
        for number, change in enumerate(changes)
    ]
    return pa.Table.from_pylist(named, SCHEMA)


def test_each_condition_counts_the_shots_that_miss_it(tmp_path):
    table = rows({}, {"blur": 0.9}, {"blur": 0.9, "border": 0.1}, {"face_share": None}, {"problem": "decode_error"})
    choice = choose_shots(table, config())
    assert (choice.shots, len(choice.chosen), choice.problems) == (4, 1, {"decode_error": 1})
    counts = {missed.text: (missed.shots, missed.alone, missed.unknown) for missed in choice.missed if missed.shots}
    assert counts == {
        "face_share>=0.9": (1, 1, 1), "blur is None or blur<=0.65": (2, 1, 0), "border<=0.02": (1, 0, 0)
    }  # fmt: skip
    first = write_choice(choice, config(), tmp_path).read_bytes()
    report = (tmp_path / "scan/choice.json").read_bytes()
    assert write_choice(choose_shots(table, config()), config(), tmp_path).read_bytes() == first
    assert (tmp_path / "scan/choice.json").read_bytes() == report
    assert json.loads(report)["chosen"] == 1
    assert "border<=0.02" in (tmp_path / "scan/rejected.csv").read_text()


def test_enlargement_follows_the_frame_size():
    table = rows({"span_px": 200.0}, {"span_px": 150.0})  # crops of 340 and 255 px
    assert len(choose_shots(table, config()).chosen) == 0
    assert len(choose_shots(table, config("frame_size=256")).chosen) == 2
    assert len(choose_shots(table, config("select=enlargement<1.6")).chosen) == 1


def test_ten_thousand_rows_are_chosen_in_two_seconds(tmp_path):
    table = rows(*({"blur": number % 10 / 10, "frames": number % 200} for number in range(10_000)))
    start = time.process_time()
    choice = choose_shots(table, config())
    write_choice(choice, config(), tmp_path)
    assert time.process_time() - start < 2
    assert len(choice.chosen) == sum(number % 10 <= 6 and number % 200 >= 24 for number in range(10_000))


def test_only_chosen_shots_are_encoded_and_the_others_listed():
    table = rows(
        {}, {"blur": 0.9}, {"shots": 2, "end": 2.0},
        {"clip": "c2", "key": "c2--s001", "shot": 1, "shots": 2, "start": 2.0},
        {"problem": "decode_error", "detail": "cut short"},
    )  # fmt: skip
    clips = [ClipSource(f"c{n}", Path(f"c{n}.mp4"), f"c{n}.mp4", "speaker", "train") for n in (0, 1, 2, 4)]
    found = chosen_clips(table, choose_shots(table, config()), clips)
    assert [(clip.key, clip.start, clip.end, clip.problem) for clip in found] == [
        ("c0", 0.0, 4.0, None), ("c1", 0.0, 4.0, Reason.NOT_CHOSEN), ("c2--s000", 0.0, 2.0, None),
        ("c2--s001", 2.0, 4.0, None), ("c4", 0.0, None, Reason.DECODE_ERROR),
    ]  # fmt: skip
    assert found[1].problem_detail == "misses blur is None or blur<=0.65"
    with pytest.raises(ShardError, match=r"1 clips new \(c9\), 1 gone \(c0\)"):
        chosen_clips(
            table, choose_shots(table, config()), [*clips[1:], ClipSource("c9", Path("x"), "x", "speaker", "train")]
        )
