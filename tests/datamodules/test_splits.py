"""The committed splits: unchanged files, disjoint speakers, and equal results on every machine."""

import json
import logging
from collections import Counter
from importlib import resources

import pytest

from datamodules import splits
from datamodules.splits import (
    SplitError,
    assign_splits,
    content_hash,
    parse_split,
    person_hash_split,
    read_split,
    schemes,
    split_of,
)
from datamodules.splits.clip_names import hdtf_clip_id, hdtf_person
from tools.make_splits import mead_emotivetalk, mead_official

NAMES = ["hdtf_emotivetalk", "hdtf_peer_edtalk", "mead_emotivetalk", "mead_official", "mead_peer_edtalk"]


def committed(name):
    return json.loads((resources.files(splits) / f"{name}.json").read_text())


def test_every_committed_file_is_tested():
    files = sorted(path.name for path in resources.files(splits).iterdir() if path.name.endswith(".json"))
    assert files == [f"{name}.json" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_files_have_a_valid_hash_and_a_source(name):
    raw = committed(name)
    assert raw["name"] == name
    assert raw["sha256"] == content_hash(raw)
    assert "https://github.com/" in raw["source"]
    assert raw["rule"]


def test_a_changed_list_is_rejected():
    raw = committed("mead_emotivetalk")
    assert parse_split(json.dumps(raw)) == read_split("mead_emotivetalk")
    raw["persons"]["train"].append(raw["persons"]["test"].pop())
    with pytest.raises(SplitError, match="mead_emotivetalk.json: its lists do not match its sha256"):
        parse_split(json.dumps(raw))
    with pytest.raises(SplitError, match="missing.json: no such split file"):
        read_split("missing")


@pytest.mark.parametrize("name", ["hdtf_emotivetalk", "mead_emotivetalk", "mead_peer_edtalk"])
def test_splits_share_no_speaker(name):
    counts = Counter(person for side in read_split(name).persons.values() for person in side)
    assert set(counts.values()) == {1}


def test_hdtf_split_by_speaker():
    persons = read_split("hdtf_emotivetalk").persons
    everyone = {person for side in persons.values() for person in side}
    assert len(everyone) == 275  # 56 radio addresses and 219 names without numbers; two names are aliases
    assert len([person for person in everyone if person.startswith("Radio")]) == 56
    for side in ("val", "test"):
        assert 0.08 < len(persons[side]) / len(everyone) < 0.13
    # Both names of a speaker belong to the same split.
    names = ("WhipJimClyburn", "JamesClyburn1")
    assert len({split_of("hdtf", "emotivetalk", hdtf_person(name), "") for name in names}) == 1


def test_mead_split_by_actor():
    persons = read_split("mead_emotivetalk").persons
    assert persons["test"] == ["M003", "M030", "W009", "W015"]
    assert sum(map(len, persons.values())) == 48
    assert {actor[0] for actor in persons["val"]} == {"M", "W"}


def test_files_equal_the_output_of_their_script():
    for made in (mead_emotivetalk(), mead_official()):
        assert made == committed(made["name"])


def test_peer_lists_have_the_published_sizes():
    mead, hdtf = read_split("mead_peer_edtalk"), read_split("hdtf_peer_edtalk")
    assert {side: len(actors) for side, actors in mead.persons.items()} == {"train": 39, "test": 4}
    assert {side: len(clips) for side, clips in hdtf.clips.items()} == {"train": 308, "test": 77}
    assert not set(hdtf.clips["train"]) & set(hdtf.clips["test"])


def test_the_hdtf_peer_split_warns_about_shared_speakers(caplog):
    clips = read_split("hdtf_peer_edtalk").clips
    speakers = [{hdtf_person(hdtf_clip_id(clip)[0]) for clip in clips[side]} for side in ("train", "test")]
    shared = speakers[0] & speakers[1]
    assert len([person for person in shared if not person.startswith("Radio")]) == 31
    read_split.cache_clear()
    splits._by_clip.cache_clear()
    with caplog.at_level(logging.WARNING, logger="datamodules.splits"):
        assert split_of("hdtf", "peer", "Radio11", "RD_Radio11_001") == "test"
        assert split_of("hdtf", "peer", "Radio11", "RD_Radio11_000") == "train"
    assert caplog.text.count("do not show unseen people") == 1  # once, not for every clip
    assert all(person in read_split("hdtf_peer_edtalk").rule for person in shared)


@pytest.mark.parametrize(
    ("key", "clip"),
    [
        ("RD_Radio11_001", ("Radio11", 1)),
        ("RD_Radio11_001_004", ("Radio11", 1)),
        ("RD_Radio10_000_clip_0", ("Radio10", 0)),
        ("old--WDA_AmyKlobuchar1_002-0123abcd", ("AmyKlobuchar1", 2)),
        ("AmyKlobuchar1_002", ("AmyKlobuchar1", 2)),
        ("WDA_LucilleRoybal-Allard_000", ("LucilleRoybal-Allard", 0)),
        ("holiday", None),
    ],
)
def test_clip_names_are_parsed_from_keys(key, clip):
    assert hdtf_clip_id(key) == clip


def test_person_hash_is_stable_and_has_the_given_shares():
    # By hand: `printf 0:alice | sha256sum` begins 5b (0.36 of the range), "0:person 9" da (0.85), "0:carol" fb (0.98).
    assert [person_hash_split(name) for name in ("alice", "person 9", "carol")] == ["train", "val", "test"]
    counts = Counter(person_hash_split(f"person {number}") for number in range(5000))
    for side, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(counts[side] / 5000 - share) < 4 * (share * (1 - share) / 5000) ** 0.5  # four standard errors
    assert person_hash_split("Ju\u0308rgen") == person_hash_split("J\u00fcrgen")
    assert [person_hash_split(str(n), 1) for n in range(99)] != [person_hash_split(str(n), 0) for n in range(99)]
    assert person_hash_split("anyone", fractions=(0.0, 0.0, 1.0)) == "test"


def test_unlisted_speakers_are_assigned():
    unlisted = [f"WDA_Nobody{chr(97 + n)}{chr(97 + m)}" for n in range(20) for m in range(20)]
    sides = Counter(split_of("hdtf", "emotivetalk", person, f"WDA_{person}_000") for person in unlisted)
    assert set(sides) == {"train", "val", "test"}
    assert {split_of("hdtf", "peer", person, f"WDA_{person}_000") for person in unlisted} == {"train"}
    assert {split_of("mead", "peer", actor, "") for actor in ("M041", "W099")} == {"train"}


def test_official_counts_sentences_from_the_end():
    keys = [f"M040_{view}sad_level_2_{number:03d}" for view in ("", "front_") for number in range(2, 60, 2)]
    sides = assign_splits("mead", "official", dict.fromkeys(keys, "M040"))
    assert {int(key[-3:]) for key, side in sides.items() if side == "test"} == {48, 50, 52, 54, 56, 58}
    with pytest.raises(SplitError, match="use assign_splits"):
        split_of("mead", "official", "M040", keys[0])


@pytest.mark.parametrize(("clips", "held"), [(1, 0), (2, 0), (3, 1), (14, 1), (15, 2), (100, 10)])
def test_time_holds_out_the_end_of_each_speaker(clips, held):
    keys = [f"talk---{piece:03d}" for piece in range(clips)]
    sides = assign_splits("folder", "time", {**dict.fromkeys(reversed(keys), "me"), "alone": "other"})
    assert sides.pop("alone") == "train"
    expected = ["train"] * (clips - 2 * held) + ["val"] * held + ["test"] * held
    assert [sides[key] for key in keys] == expected
    with pytest.raises(SplitError, match="use assign_splits"):
        split_of("folder", "time", "me", keys[0])


def test_schemes_of_each_dataset():
    assert schemes("hdtf") == ("emotivetalk", "peer", "person", "time", "train")
    assert schemes("mead") == ("emotivetalk", "peer", "official", "person", "time", "train")
    with pytest.raises(
        SplitError, match="hdtf has no such split; choose one of emotivetalk, peer, person, time, train"
    ):
        split_of("hdtf", "official", "Radio1", "RD_Radio1_000")
    assert split_of("synthetic", "emotivetalk", "M100", "") == person_hash_split("M100")
    assert split_of("folder", "emotivetalk", "anyone", "") == "train"
