"""The cast: stable, distinct, and split by person."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from preparation.synthetic import identity, split_of

CAST = [identity(index) for index in range(24)]


def test_names_are_unique_and_never_meads():
    assert len({person.name for person in CAST}) == len({person.hdtf_name for person in CAST}) == 24
    assert all(int(person.name[1:]) >= 100 for person in CAST)  # MEAD's run from M003 to W040
    assert all(person.hdtf_name.removeprefix("WDA_").isalpha() for person in CAST)


def test_any_two_of_the_first_twelve_differ_to_the_eye():
    coloured = ("skin", "hair", "background", "clothes")
    for first in CAST[:12]:
        for second in CAST[: first.index]:
            colours = ([getattr(person, what) for person in (first, second)] for what in coloured)
            different = sum(np.abs(np.subtract(*pair)).max() > 12 for pair in colours)
            assert different + (first.hair_style != second.hair_style) >= 3, (first.name, second.name)


def test_voices_differ_in_pitch_and_vocal_tract():
    pairs = {(round(person.voice.f0), round(person.voice.formant_scale, 2)) for person in CAST[:12]}
    assert len(pairs) == 12
    assert max(p.voice.f0 for p in CAST if not p.female) < min(p.voice.f0 for p in CAST if p.female)


def test_the_split_is_by_person_and_holds_enough_of_each():
    assert Counter(split_of(person) for person in CAST[:12]) == {"train": 9, "test": 2, "val": 1}
    test = [person for person in CAST[:12] if split_of(person) == "test"]
    assert {person.female for person in test} == {False, True}
    for index in (*range(60), 700):  # past the list of first names, too
        person = identity(index)
        assert split_of(person.name) == split_of(person.hdtf_name) == split_of(person)
        assert split_of(person.hdtf_name.removeprefix("WDA_")) == split_of(person)


@pytest.mark.parametrize("name", ["M003", "W100", "KatieHill", "WDA_Synth", "WDA_SynthNobody", ""])
def test_strangers_have_no_split(name):
    with pytest.raises(ValueError, match="not a synthetic speaker"):
        split_of(name)
