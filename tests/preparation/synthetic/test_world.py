"""Synthetic speakers are distinct and split by speaker."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from preparation.synthetic import identity, split_of

SPEAKERS = [identity(index) for index in range(24)]


def test_names_are_unique_and_differ_from_meads():
    assert len({person.name for person in SPEAKERS}) == len({person.hdtf_name for person in SPEAKERS}) == 24
    assert all(int(person.name[1:]) >= 100 for person in SPEAKERS)  # MEAD's ids are below 100
    assert all(person.hdtf_name.removeprefix("WDA_").isalpha() for person in SPEAKERS)


def test_first_twelve_speakers_look_different():
    coloured = ("skin", "hair", "background", "clothes")
    for first in SPEAKERS[:12]:
        for second in SPEAKERS[: first.index]:
            colours = ([getattr(person, what) for person in (first, second)] for what in coloured)
            different = sum(np.abs(np.subtract(*pair)).max() > 12 for pair in colours)
            assert different + (first.hair_style != second.hair_style) >= 3, (first.name, second.name)


def test_voices_differ_in_pitch_and_vocal_tract():
    pairs = {(round(person.voice.f0), round(person.voice.formant_scale, 2)) for person in SPEAKERS[:12]}
    assert len(pairs) == 12
    assert max(p.voice.f0 for p in SPEAKERS if not p.female) < min(p.voice.f0 for p in SPEAKERS if p.female)


def test_split_is_by_speaker_and_has_both_genders_in_test():
    assert Counter(split_of(person) for person in SPEAKERS[:12]) == {"train": 9, "test": 2, "val": 1}
    test = [person for person in SPEAKERS[:12] if split_of(person) == "test"]
    assert {person.female for person in test} == {False, True}
    for index in (*range(60), 700):  # also beyond the list of first names
        person = identity(index)
        assert split_of(person.name) == split_of(person.hdtf_name) == split_of(person)
        assert split_of(person.hdtf_name.removeprefix("WDA_")) == split_of(person)


@pytest.mark.parametrize("name", ["M003", "W100", "KatieHill", "WDA_Synth", "WDA_SynthNobody", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="not a synthetic speaker"):
        split_of(name)
