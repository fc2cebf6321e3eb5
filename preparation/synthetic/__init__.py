"""Synthetic speakers: parametric talking faces with known true factors."""

from __future__ import annotations

from preparation.synthetic.emotions import EMOTIONS, levels_of
from preparation.synthetic.motion import FACTOR_NAMES
from preparation.synthetic.synthetic_clip import SyntheticClip, render_clip
from preparation.synthetic.world import SyntheticPerson, held_out_people, identity, split_of
from preparation.synthetic.write import write_dataset, write_speaker

__all__ = [
    "EMOTIONS",
    "FACTOR_NAMES",
    "SyntheticPerson",
    "SyntheticClip",
    "identity",
    "levels_of",
    "render_clip",
    "split_of",
    "held_out_people",
    "write_dataset",
    "write_speaker",
]
