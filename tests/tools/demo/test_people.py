"""Who is held out from the trainings on real people, and the lists that prepare.py reads."""

import numpy as np
import pytest

from configs.command_line import compose
from configs.preparation import DatasetConfig, PrepareConfig
from preparation.layouts import find_clips
from prepare import prepare
from tests.helpers.files import touch
from tests.helpers.synthetic_videos import write_clip, write_speakers
from tools.demo.people import KeptVideo, People, main, write_lists

KEYS = (
    "dataset=folder",
    "dataset.speaker=([^.]+)",
    "preset=tiny",
    "dataset.split=train",
    "store_video=all",
    "workers=1",
)
VIDEOS = [KeptVideo(f"{chr(97 + number) * 3}_0.mp4", chr(97 + number) * 3, 1) for number in range(7)]
VIDEOS += [KeptVideo("aaa_1.mp4", "aaa", 3), KeptVideo("h/one.mp4", "h", 1), KeptVideo("h/two.mp4", "h", 2)]


def test_lists_are_nested_and_nobody_is_on_both_sides(tmp_path):
    lists, videos = tmp_path / "lists", touch(tmp_path / "videos", *(video.file for video in VIDEOS))
    people = write_lists(VIDEOS, lists)
    assert People.read(lists) == people
    trained = people.trained
    assert [len(names) for names in trained.values()] == [2, 4, 6]
    assert trained["all"][:4] == trained["4"]
    assert trained["4"][:2] == trained["2"]
    assert len(people.held_out) == 2
    for name, names in trained.items():
        found = find_clips(DatasetConfig(name="manifest", list_file=str(lists / f"{name}.csv")), videos).clips
        sides = {split: {clip.speaker for clip in found if clip.split == split} for split in ("train", "test")}
        assert sides == {"train": set(names), "test": set(people.held_out)}
        assert people.clips[name] == sum(video.clips for video in VIDEOS if video.speaker in names)


def test_the_choice_depends_on_the_names_alone():
    first, second = People.of(VIDEOS), People.of([*reversed(VIDEOS), KeptVideo("aaa_2.mp4", "aaa", 9)])
    assert (first.held_out, first.trained) == (second.held_out, second.trained)


def test_with_three_people_nobody_is_held_out():
    people = People.of(VIDEOS[:3])
    assert (people.held_out, list(people.trained), people.clips) == ((), ["all"], {"all": 3})


@pytest.mark.slow
def test_people_without_a_usable_clip_are_not_chosen(tmp_path, capsys):
    raw, shards, lists = (tmp_path / name for name in ("raw", "shards", "lists"))
    names = [f"clip{number}" for number in range(5)]
    chosen = People.of([KeptVideo(f"{name}.mp4", name, 1) for name in names])
    silent = {chosen.held_out[0], chosen.trained["all"][0]}
    write_speakers(raw, clips=5, seconds=1.4)
    for name in silent:
        write_clip(raw / f"{name}.mp4", [np.zeros((64, 64, 3), np.uint8)] * 35)
    assert prepare(compose("prepare", PrepareConfig, [*KEYS, f"source={raw}", f"output={shards}"])) == 0
    main([f"shards={shards}", f"output={lists}"])
    assert "held out: nobody" in capsys.readouterr().out
    assert set(People.read(lists).trained["all"]) == set(names) - silent
