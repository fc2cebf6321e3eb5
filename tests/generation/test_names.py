"""Names that no file can have, or that are not text, concern one video and are reported before any work on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from generation.batch import VideoCase, name_of
from generation.inputs import look_at_inputs
from generation.record import record_path
from media import MediaError
from runtime.files import WriteError, require_writable, sha256_of, write_whole
from runtime.json_text import parse_json


def test_a_name_that_is_not_utf8_gives_a_name():
    name = name_of(VideoCase(Path(os.fsdecode(b"\xff\xfe.png")), Path("speech.wav"), Path("x.mp4")))
    assert name.encode().decode() == name
    assert name.endswith("_speech")


@pytest.mark.parametrize("letter", ["a", "\u8a9e"])
def test_an_output_name_that_is_too_long_is_refused_before_any_work(tmp_path, letter):
    output = tmp_path / f"{letter * (250 // len(letter.encode()))}.mp4"
    require_writable(output)
    write_whole(output, "the temporary name of the longest name fits")
    too_long = tmp_path / f"{letter * (255 // len(letter.encode()))}.mp4"
    with pytest.raises(WriteError, match=r"has 259 bytes; choose a shorter name"):
        require_writable(too_long)
    with pytest.raises(WriteError, match=r"output=x.mp4: cannot be written"):
        require_writable(record_path(tmp_path / f"{'a' * 251}.mp4"), "output=x.mp4")


def test_names_with_a_nul_are_errors_of_one_file(tmp_path):
    with pytest.raises(WriteError, match="is not a possible file name"):
        require_writable(tmp_path / "a\0b.mp4")
    case = VideoCase(tmp_path / "a\0b.png", tmp_path / "speech.wav", tmp_path / "x.mp4")
    with pytest.raises(MediaError, match="is not a possible file name"):
        look_at_inputs(case)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files")
def test_a_pipe_is_not_hashed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a regular file"):
        sha256_of(tmp_path / "pipe")


def test_deep_json_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}
