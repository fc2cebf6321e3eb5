"""Who is held out from the trainings on real people, and the lists that prepare.py reads."""

import json

import pytest

from configs.preparation import DatasetConfig
from preparation.layouts import LayoutError, find_clips
from tests.helpers.files import touch
from tests.helpers.refusals import refuses
from tools.demo.people import clips_of, main


@pytest.fixture
def videos(tmp_path):
    """Ten videos of eight people, two in a folder of their own."""
    names = [f"{chr(97 + number) * 3}_0.mp4" for number in range(6)] + [
        "aaa_1.mp4",
        "g/one.mp4",
        "g/two.mp4",
        "h/x.mp4",
    ]
    return touch(tmp_path / "videos", *names)


def test_lists_are_nested_and_nobody_is_on_both_sides(videos, tmp_path):
    main([f"videos={videos}", f"output={tmp_path / 'lists'}"])
    people = json.loads((tmp_path / "lists" / "people.json").read_text())
    trained = people["trained"]
    assert [len(names) for names in trained.values()] == [2, 4, 6]
    assert trained["all"][:4] == trained["4"]
    assert trained["4"][:2] == trained["2"]
    assert len(people["held_out"]) == 2
    for name, names in trained.items():
        found = find_clips(
            DatasetConfig(name="manifest", list_file=str(tmp_path / "lists" / f"{name}.csv")), videos
        ).clips
        sides = {split: {clip.speaker for clip in found if clip.split == split} for split in ("train", "test")}
        assert sides == {"train": set(names), "test": set(people["held_out"])}


def test_the_choice_depends_on_the_names_alone(videos, tmp_path):
    main([f"videos={videos}", f"output={tmp_path / 'a'}"])
    touch(videos, "aaa_2.mp4")
    main([f"videos={videos}", f"output={tmp_path / 'b'}"])
    first, second = (json.loads((tmp_path / name / "people.json").read_text()) for name in "ab")
    assert first == second


def test_a_pattern_names_the_people(videos):
    assert len({clip.speaker for clip in clips_of(videos)}) == 8
    assert len({clip.speaker for clip in clips_of(videos, "([^.]+)")}) == 10
    (videos / "zzz.mp4").mkdir()  # has the ending of a video, and is none
    assert len(clips_of(videos)) == 10
    refuses(LayoutError, "dataset.speaker=x9: names no speaker", clips_of, videos, "x9")


def test_with_three_people_nobody_is_held_out(tmp_path, capsys):
    main([f"videos={touch(tmp_path / 'videos', 'a.mp4', 'b.mp4', 'c.mp4')}", f"output={tmp_path / 'lists'}"])
    assert "held out: nobody" in capsys.readouterr().out
    assert [path.name for path in sorted((tmp_path / "lists").glob("*.csv"))] == ["all.csv"]
