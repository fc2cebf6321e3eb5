"""Builds encoders by name, refuses unknown names and options, and imports no model library for preset ``tiny``."""

import subprocess
import sys

import pytest

from encoders import build_audio_encoder, build_codec
from encoders.factory import EncoderError, build, build_as
from encoders.protocols import Identity
from runtime.registry import UnknownName
from tests.helpers.refusals import refuses


def test_build_by_name():
    assert build_codec("patch", patch=2).channels == 12
    assert build_audio_encoder("mel").identity.name == "mel"


def test_unknown_name_is_refused_with_the_known_ones():
    known = r"encoders\.codec\.name=vqgan: there is no such codec; there are patch, dct, taef2, svd"
    refuses(ValueError, known, build_codec, "vqgan")


def test_unknown_option_is_refused():
    pach = r"encoders\.codec\.options\.pach: patch has no such option; its options: patch"
    layers = r"encoders\.audio\.options\.layers: mel has no such option"
    refuses(ValueError, pach, build_codec, "patch", pach=2)
    refuses(ValueError, layers, build_audio_encoder, "mel", layers=12)


@pytest.mark.parametrize(("kind", "name"), [("audio", "mel"), ("codec", "patch"), ("landmarks", "sidecar")])
def test_encoder_is_built_from_its_identity(kind, name):
    identity = build(kind, name, "cpu", {}).identity
    assert build_as(kind, identity).identity == identity


def test_other_identity_is_refused():
    assert build_as("codec", Identity("patch", {"patch": 2})).channels == 12
    other, message = Identity("mel", {"bands": 40}), r"encoders\.audio: found .*mel.*, expected .*'bands': 40.*"
    refuses(EncoderError, message, build_as, "audio", other)
    refuses(UnknownName, r"encoders\.codec\.name=vqgan: there is no such codec", build_as, "codec", Identity("vqgan"))


@pytest.mark.slow
def test_preset_tiny_imports_no_model_library():
    code = (
        "import sys; from encoders import *; build_audio_encoder('mel'); build_codec('patch');"
        "print(sorted({'transformers', 'diffusers', 'mediapipe', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
