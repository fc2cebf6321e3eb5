"""Names become encoders; wrong names and options become readable errors; nothing heavy is loaded for preset tiny."""

import subprocess
import sys

import pytest

from encoders import build_audio_encoder, build_codec
from encoders.factory import EncoderError, build, build_as
from encoders.protocols import Identity
from runtime.registry import UnknownName
from tests.helpers.refusals import refuses


def test_builds_what_is_named():
    assert build_codec("patch", patch=2).channels == 12
    assert build_audio_encoder("mel").identity.name == "mel"


def test_unknown_name_lists_the_known():
    known = r"encoders\.codec\.name=vqgan: there is no such codec; there are patch, taef2, svd"
    refuses(ValueError, known, build_codec, "vqgan")


def test_unknown_option_is_named():
    pach = r"encoders\.codec\.options\.pach: patch has no such option; there are: patch"
    layers = r"encoders\.audio\.options\.layers: mel has no such option"
    refuses(ValueError, pach, build_codec, "patch", pach=2)
    refuses(ValueError, layers, build_audio_encoder, "mel", layers=12)


@pytest.mark.parametrize(("kind", "name"), [("audio", "mel"), ("codec", "patch"), ("landmarks", "sidecar")])
def test_an_encoder_is_built_again_from_its_identity(kind, name):
    identity = build(kind, name, "cpu", {}).identity
    assert build_as(kind, identity).identity == identity


def test_an_encoder_that_is_not_the_one_is_refused():
    assert build_as("codec", Identity("patch", {"patch": 2})).channels == 12
    other, needed = Identity("mel", {"bands": 40}), r"encoders\.audio: .*mel.* is here, .*'bands': 40.* is needed"
    refuses(EncoderError, needed, build_as, "audio", other)
    refuses(UnknownName, r"encoders\.codec\.name=vqgan: there is no such codec", build_as, "codec", Identity("vqgan"))


@pytest.mark.slow
def test_tiny_loads_no_model_library():
    code = (
        "import sys; from encoders import *; build_audio_encoder('mel'); build_codec('patch');"
        "print(sorted({'transformers', 'diffusers', 'mediapipe', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
