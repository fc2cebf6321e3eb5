"""The plan depends only on sources and settings, contains every clip, and cuts long clips into equal pieces."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.preparation import DatasetConfig, PrepareConfig
from datamodules.schema import Dimensions, ShardError
from media import look_at, look_at_headers
from preparation.clip_source import ClipSource, Reason
from preparation.header_lengths import HeaderLengths
from preparation.layouts import find_clips
from preparation.plan import continued, extended, has_new_clips, make_plan, read_plan, write_plan
from tests.helpers.videos import write_video

DIMENSIONS = Dimensions(48, 16, 4, 80, 12, 13)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 1, 5 and 11 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    for seconds in (1, 5, 11):
        frames = (np.full((32, 32, 3), frame % 255, np.uint8) for frame in range(seconds * 25))
        write_video(folder / f"{seconds}.mp4", frames)
    return folder


def config(**changes) -> PrepareConfig:
    settings = {"preset": "tiny", "frame_size": 64, "max_seconds": 4.0, **changes}
    return PrepareConfig(dataset=DatasetConfig(name="folder"), **settings)


def clips_of(folder, copies=1):
    return [
        ClipSource(key=f"{path.stem}-{copy}", path=path, name=path.name, speaker=path.stem, split="train")
        for copy in range(copies)
        for path in sorted(folder.glob("*.mp4"))
    ]


def pieces(plan):
    return [clip for shard in plan.shards for clip in shard.clips]


def test_long_clips_are_cut_into_equal_pieces_without_gap_or_overlap(videos):
    plan = make_plan(config(), clips_of(videos), DIMENSIONS)
    one, five, eleven = (
        sorted((clip for clip in pieces(plan) if clip.path.name == name), key=lambda clip: clip.start)
        for name in ("1.mp4", "5.mp4", "11.mp4")
    )
    assert [(clip.start, clip.end) for clip in one] == [(0.0, None)]
    assert [(clip.start, clip.end) for clip in five] == [(0.0, 2.48), (2.48, None)]
    assert [clip.end for clip in eleven[:-1]] == [clip.start for clip in eleven[1:]]
    assert eleven[-1].end is None
    assert all(clip.start * 25 == pytest.approx(round(clip.start * 25)) for clip in eleven)
    assert max(plan.frames[clip.key] for clip in eleven) <= 100
    assert sum(plan.frames[clip.key] for clip in eleven) == 275


def test_split_by_time_holds_out_the_last_pieces_of_a_long_video(videos):
    timed = replace(config(), dataset=DatasetConfig(name="folder", split="time"))
    plan = make_plan(timed, clips_of(videos), DIMENSIONS)
    eleven = sorted((clip for clip in pieces(plan) if clip.path.name == "11.mp4"), key=lambda clip: clip.start)
    assert [clip.split for clip in eleven] == ["train", "val", "test"]
    assert {clip.split for clip in pieces(plan) if clip.path.name != "11.mp4"} == {"train"}


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
def test_each_shard_belongs_to_one_part(videos, parts):
    plan = make_plan(config(shard_bytes=3_000_000), clips_of(videos, copies=5), DIMENSIONS)
    owned = [shard.name for part in range(parts) for shard in plan.part(part, parts)]
    assert sorted(owned) == [shard.name for shard in plan.shards]
    assert len(plan.shards) > 3


def test_plan_has_every_clip_and_ignores_their_order(videos):
    clips = clips_of(videos, copies=5)
    plan = make_plan(config(), clips, DIMENSIONS)
    assert make_plan(config(), clips[::-1], DIMENSIONS).shards == plan.shards
    assert {clip.path for clip in pieces(plan)} == {clip.path for clip in clips}
    assert len({clip.key for clip in pieces(plan)}) == len(pieces(plan)) == 5 * (1 + 2 + 3)


def test_keys_of_pieces_differ_from_keys_of_clips(videos, tmp_path):
    (tmp_path / "parts").mkdir()
    for name, seconds in (("talk.mp4", 11), ("talk_000.mp4", 1), ("talk-000.mp4", 1), ("talk---000.mp4", 1)):
        shutil.copy(videos / f"{seconds}.mp4", tmp_path / name)
    clips = find_clips(DatasetConfig(name="folder", split="train"), tmp_path).clips
    plan = make_plan(config(), clips, DIMENSIONS)
    assert len(pieces(plan)) == len({clip.key for clip in pieces(plan)}) == 3 + 3
    assert continued(plan, config(), clips, tmp_path).shards == plan.shards


def test_broken_files_stay_in_the_plan_with_their_reason(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    found = pieces(make_plan(config(), clips_of(tmp_path), DIMENSIONS))
    assert [clip.problem for clip in found] == [Reason.DECODE_ERROR] * 2
    assert all(clip.problem_detail for clip in found)


def test_plan_round_trip(videos, tmp_path):
    (tmp_path / "parts").mkdir()
    clips = [replace(clip, notes=("seen",), crop=(1, 2, 30, 30)) for clip in clips_of(videos)]
    plan = make_plan(config(), clips, DIMENSIONS)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path).shards == plan.shards
    continued(read_plan(tmp_path), config(), clips, tmp_path)


def test_other_settings_and_sources_are_refused(videos, tmp_path):
    (tmp_path / "parts").mkdir()
    clips = clips_of(videos)
    write_plan(tmp_path, make_plan(config(), clips, DIMENSIONS))
    plan = read_plan(tmp_path)
    with pytest.raises(ShardError, match="frame_size was 64, now 128"):
        continued(plan, config(frame_size=128), clips, tmp_path)
    with pytest.raises(ShardError, match=r"1 gone \(5-0\)"):
        continued(plan, config(), [clip for clip in clips if clip.key != "5-0"], tmp_path)
    continued(plan, config(workers=7, part="2/3", max_rejected=0.1), clips, tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": 99}'])
def test_damaged_plan_is_refused(tmp_path, text):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "plan.json").write_text(text)
    with pytest.raises(ShardError, match=r"plan.json: (damaged|written by a newer version)"):
        read_plan(tmp_path)


def test_video_downloaded_again_is_probed_again(videos, tmp_path):
    for name in ("a.mp4", "long.mp4"):
        (tmp_path / name).write_bytes(b"cut short")
    plan = make_plan(config(), clips_of(tmp_path), DIMENSIONS)
    assert [clip.problem for clip in pieces(plan)] == [Reason.DECODE_ERROR] * 2
    assert pieces(continued(plan, config(), clips_of(tmp_path), tmp_path)) == pieces(plan)
    shutil.copy(videos / "1.mp4", tmp_path / "a.mp4")
    shutil.copy(videos / "5.mp4", tmp_path / "long.mp4")
    now = {clip.name: clip for clip in pieces(continued(plan, config(), clips_of(tmp_path), tmp_path))}
    assert now["a.mp4"].problem is None
    assert "max_seconds=4: prepare it into another output" in now["long.mp4"].problem_detail


def test_headers_give_the_plan_that_packets_give(videos, monkeypatch):
    monkeypatch.setattr(
        "preparation.header_lengths.look_at", None
    )  # not called: no length is near a whole number of pieces
    found = clips_of(videos, copies=40)
    plan = make_plan(config(), found, DIMENSIONS)
    monkeypatch.undo()
    monkeypatch.setattr("preparation.header_lengths.look_at_headers", lambda paths, limits: [None] * len(paths))
    assert make_plan(config(), found, DIMENSIONS) == plan


def test_packets_decide_where_a_tenth_of_a_second_does(videos, monkeypatch):
    looked = []
    monkeypatch.setattr(
        "preparation.header_lengths.look_at", lambda path, limits: looked.append(path.name) or look_at(path)
    )
    make_plan(config(max_seconds=5.0), clips_of(videos), DIMENSIONS)
    assert looked == ["5.mp4"]
    late = [replace(clip, end=float(clip.path.stem) + 0.05) for clip in clips_of(videos)]
    plan = make_plan(config(max_seconds=20.0), late, DIMENSIONS)
    assert [clip.end for clip in pieces(plan)] == [None] * 3


def test_a_planning_that_was_killed_goes_on_where_it_was(videos, tmp_path, monkeypatch):
    kept, found = tmp_path / "lengths.jsonl", clips_of(videos)
    whole = make_plan(config(), found, DIMENSIONS)
    make_plan(config(), found[:2], DIMENSIONS, lengths=HeaderLengths(kept))
    with kept.open("a") as file:
        file.write('{"path": "/cut sho')
    looked = []

    def headers(paths, limits):
        looked.extend(path.name for path in paths)
        return look_at_headers(paths, limits=limits)

    monkeypatch.setattr("preparation.header_lengths.look_at_headers", headers)
    assert make_plan(config(), found, DIMENSIONS, lengths=HeaderLengths(kept)) == whole
    assert looked == [found[2].path.name]
    shutil.copy(videos / "1.mp4", changed := tmp_path / "changed.mp4")
    HeaderLengths(kept).by_header([changed])
    shutil.copy(videos / "11.mp4", changed)
    assert HeaderLengths(kept).by_header([changed])[changed] == pytest.approx(11, abs=0.05)


def test_new_clips_are_added_as_new_shards(videos, tmp_path):
    settings = config(shard_bytes=3_000_000)
    before = make_plan(settings, clips_of(videos, copies=2), DIMENSIONS)
    clips = clips_of(videos, copies=3)
    assert has_new_clips(before, settings, clips)
    plan = extended(before, settings, clips, DIMENSIONS)
    assert plan.shards[: len(before.shards)] == before.shards
    assert [shard.name for shard in plan.shards] == [f"folder-{number:05d}.tar" for number in range(len(plan.shards))]
    added = {clip.key.partition("---")[0] for shard in plan.shards[len(before.shards) :] for clip in shard.clips}
    assert added == {"1-2", "5-2", "11-2"}
    assert continued(plan, settings, clips, tmp_path) == plan
    assert not has_new_clips(plan, settings, clips)
    assert not has_new_clips(before, settings, clips[1:])  # one is gone
    timed = replace(settings, dataset=DatasetConfig(name="folder", split="time"))
    assert not has_new_clips(before, timed, clips)


def row(number, **changes):
    """A clip of a list, or a row with an error."""
    return ClipSource(key=f"row-{number}", path=Path("clips.csv"), name="x", speaker="", split="train", **changes)


def test_mended_rows_are_added_and_their_errors_leave_the_plan(videos, tmp_path):
    good = clips_of(videos)
    bad = [row(number, problem=Reason.BAD_ROW, problem_detail="has no path") for number in (1, 2)]
    before = make_plan(config(), [*good, *bad], DIMENSIONS)
    mended = [*good, bad[0], replace(good[0], key="mended")]
    assert has_new_clips(before, config(), mended)
    plan = extended(before, config(), mended, DIMENSIONS)
    assert set(plan.found) == {clip.key for clip in mended}
    assert [len(shard.clips) for shard in plan.shards] == [len(before.shards[0].clips) - 1, 1]
    assert continued(plan, config(), mended, tmp_path) == plan
    assert has_new_clips(plan, config(), good[1:]) is False  # one that has a shard is gone
    removed = extended(before, config(), good, DIMENSIONS)
    assert {clip.key for clip in pieces(removed)} == {clip.key for clip in pieces(plan)} - {"mended", "row-1"}
    assert len(removed.shards) == 1


def test_a_clip_whose_problem_is_gone_is_the_current_one(videos, tmp_path):
    """A shot that a second scan chooses has the span and lag of that scan."""
    one, *others = clips_of(videos)
    left_out = replace(one, problem=Reason.NOT_CHOSEN, problem_detail="misses blur<0.6")
    plan = make_plan(config(), [left_out, *others], DIMENSIONS)
    chosen = replace(one, start=0.2, end=0.8, lag=2, speaker="ann")
    (now,) = [clip for clip in pieces(continued(plan, config(), [chosen, *others], tmp_path)) if clip.key == one.key]
    assert now == chosen
    other = replace(left_out, problem=Reason.NO_FACE, problem_detail="")
    (now,) = [clip for clip in pieces(continued(plan, config(), [other, *others], tmp_path)) if clip.key == one.key]
    assert now == other
    copy = replace(one, problem=Reason.DUPLICATE)  # by content, which is compared when the plan is made
    plan = make_plan(config(), [copy, *others], DIMENSIONS)
    assert continued(plan, config(), [one, *others], tmp_path).problems == {one.key: Reason.DUPLICATE}


def test_a_span_that_is_not_in_its_video_fails(videos):
    beyond, after, rounded = (
        replace(clips_of(videos)[2], key=str(number), start=start, end=end)
        for number, (start, end) in enumerate([(0.0, 6.5), (5.5, None), (4.0, 5.9)])
    )
    found = {
        clip.key: clip for clip in pieces(make_plan(config(max_seconds=20.0), [beyond, after, rounded], DIMENSIONS))
    }
    assert [found[key].problem for key in "012"] == [Reason.OUTSIDE_VIDEO, Reason.OUTSIDE_VIDEO, None]
    assert found["0"].problem_detail == "the clip ends at 6.5 s, but the video lasts 5.00 s"
    assert found["1"].problem_detail == "the clip starts at 5.5 s, but the video lasts 5.00 s"
