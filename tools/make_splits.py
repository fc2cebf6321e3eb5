"""Writes the split files of the project: ``python -m tools.make_splits hdtf=DIR edtalk=DIR [output=DIR]``.

``hdtf`` is the folder HDTF_dataset of https://github.com/MRzzm/HDTF, ``edtalk`` the folder data_preprocess/lists of
https://github.com/tanshuai0219/EDTalk. Equal inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.options import folder, read_options, run_script
from datamodules import splits
from datamodules.schema import SPLITS
from datamodules.splits import content_hash
from datamodules.splits.clip_names import hdtf_person
from preparation.layouts.annotations import read_annotations
from runtime.ownership import claim

HDTF_SOURCE = (
    "names and time stamps of HDTF's annotation files, https://github.com/MRzzm/HDTF commit "
    "bbde889bbab954c9a9ebcabe9962885c29f2165e, CC BY 4.0"
)
EDTALK_SOURCE = (
    "data_preprocess/lists/train.json and test.json of https://github.com/tanshuai0219/EDTalk commit "
    "06a9a968f4bc12f33d298bfb0d309d56708b5a8a, Apache-2.0"
)
MEAD_SOURCE = "actors of the public part of MEAD, https://github.com/uniBruce/Mead; test actors as in EAT and EDTalk"
MEAD_OFFICIAL_SOURCE = "README of https://github.com/uniBruce/Mead commit cbdd2e0949f55c240111c63c058a1dee03eb5277, MIT"

MEAD_ACTORS = (
    *("M003", "M005", "M007", "M009", "M011", "M012", "M013", "M019", "M022", "M023", "M024", "M025", "M026", "M027"),
    *("M028", "M029", "M030", "M031", "M032", "M033", "M034", "M035", "M037", "M039", "M040", "M041", "M042"),
    *("W009", "W011", "W014", "W015", "W016", "W017", "W018", "W019", "W021", "W023", "W024", "W025", "W026", "W028"),
    *("W029", "W033", "W035", "W036", "W037", "W038", "W040"),
)
MEAD_TEST = ("M003", "M030", "W009", "W015")
# Actors with known gaps, or left out by the peers: used for training but not for validation.
MEAD_INCOMPLETE = ("M011", "M019", "M041", "M042", "W017", "W019", "W021")
FOLDER = Path(splits.__file__).parent
SEED = 0
SHARE = 0.1


def draw(names: list[str]) -> list[str]:
    """Sorts names by a hash of the seed and the name, so that each place is independent of the other names."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{SEED}:{name}".encode()).hexdigest())


def hdtf_emotivetalk(annotations: Path) -> dict[str, Any]:
    """HDTF by person: in each subset, people in hashed order fill test, then val, with a tenth of the hours each."""
    seconds: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for segment in read_annotations(annotations).segments:
        seconds[segment.subset][hdtf_person(segment.video)] += segment.end - segment.start
    persons: dict[str, list[str]] = {side: [] for side in SPLITS}
    for people in seconds.values():
        total, filled, sides = sum(people.values()), 0.0, ["test", "val"]
        for person in draw(list(people)):
            # A person goes to a side if at least half of their hours still fit into its quota.
            while sides and filled + people[person] / 2 > SHARE * total:
                sides, filled = sides[1:], 0.0
            persons[sides[0] if sides else "train"].append(person)
            filled += people[person]
    return _file(
        "hdtf_emotivetalk",
        HDTF_SOURCE,
        "No person on two sides; the speaker is the clip's name without its numbers, each radio address a person of "
        "its own, as its speaker is not named. In each of the subsets RD, WDA and WRA, people ordered by the sha256 of "
        "'seed:name' fill test, then val, each to a tenth of the hours; the rest train.",
        seed=SEED,
        persons=persons,
    )


def mead_emotivetalk() -> dict[str, Any]:
    """MEAD by actor: the peers' four test actors, one man and one woman for validation, the others for training."""
    rest = [actor for actor in MEAD_ACTORS if actor not in MEAD_TEST]
    complete = draw([actor for actor in rest if actor not in MEAD_INCOMPLETE])
    val = [next(actor for actor in complete if actor[0] == sex) for sex in "MW"]
    return _file(
        "mead_emotivetalk",
        MEAD_SOURCE,
        "By actor. Test: M003, M030, W009, W015. Val: of the actors without known gaps that EDTalk trains on, the man "
        "and the woman whose sha256 of 'seed:name' comes first. The rest of the 48 public actors train.",
        seed=SEED,
        persons={"train": [actor for actor in rest if actor not in val], "val": val, "test": list(MEAD_TEST)},
    )


def peer_edtalk(lists: Path) -> list[dict[str, Any]]:
    """EDTalk's lists: MEAD by actor, HDTF by clip."""
    actors: dict[str, set[str]] = {}
    clips: dict[str, set[str]] = {}
    for side in ("train", "test"):
        names = [name.split("#")[0] for name in json.loads((lists / f"{side}.json").read_text(encoding="utf-8"))]
        actors[side] = {name for name in names if re.fullmatch(r"[MW]\d{3}", name)}
        clips[side] = set(names) - actors[side]
    mead = _file(
        "mead_peer_edtalk",
        EDTALK_SOURCE,
        "By actor, as listed: 39 train, 4 test, none validates. Actors that are not listed (M041, M042, W017, W019, "
        "W021 of the public part) train.",
        persons={side: sorted(names) for side, names in actors.items()},
    )
    people = [{hdtf_person(clip.split("_")[1]) for clip in clips[side]} for side in ("train", "test")]
    shared = sorted(people[0] & people[1])
    hdtf = _file(
        "hdtf_peer_edtalk",
        EDTALK_SOURCE,
        "By clip, as listed: 308 train, 77 test, none validates. Clips that are not listed train. Not by person: "
        f"{', '.join(shared)} are on both sides.",
        clips={side: sorted(names) for side, names in clips.items()},
        warning=f"{len(shared)} of its speakers are in train and in test; results on it do not show unseen people",
    )
    return [mead, hdtf]


def mead_official() -> dict[str, Any]:
    """MEAD's own split, by sentence."""
    return _file(
        "mead_official",
        MEAD_OFFICIAL_SOURCE,
        "By sentence: for each actor and level, the last 10 sentences of neutral and the last 6 of every other emotion "
        "are test, the rest train; none validates. Counted among the sentences that are there, as many actors' numbers "
        "have gaps. Every actor is on both sides.",
        last={"neutral": 10, "other": 6},
        warning="every actor is in train and in test; results on it do not show unseen people",
    )


def _file(name: str, source: str, rule: str, seed: int | None = None, **content: Any) -> dict[str, Any]:
    content = {"persons": {}, "clips": {}, "last": {}, "warning": ""} | content
    for field in ("persons", "clips"):
        content[field] = {side: sorted(names) for side, names in content[field].items()}
    return {"name": name, "source": source, "rule": rule, "seed": seed, **content, "sha256": content_hash(content)}


def main(arguments: Sequence[str]) -> None:
    """Writes the split files whose inputs are given. MEAD's own need none."""
    options = read_options(__doc__, arguments, dict.fromkeys(("hdtf", "edtalk", "output"), folder))
    files = [mead_emotivetalk(), mead_official()]
    if "hdtf" in options:
        files.append(hdtf_emotivetalk(options["hdtf"]))
    if "edtalk" in options:
        files.extend(peer_edtalk(options["edtalk"]))
    if "output" in options:
        claim(options["output"], [f"{content['name']}.json" for content in files], f"output={options['output']}")
    for content in files:
        path = options.get("output", FOLDER) / f"{content['name']}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
