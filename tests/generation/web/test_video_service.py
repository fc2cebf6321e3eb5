"""What visitors upload is taken within limits, answered in words, and deleted."""

import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from configs.app import AppConfig
from generation.errors import GenerationError
from generation.web.video_service import VideoRequest, VideoService
from tests.helpers.inputs import tone
from tests.helpers.sound import write_wav


@pytest.fixture
def service(pipeline, tmp_path):
    return VideoService(pipeline, AppConfig(ethd="run", max_seconds=2, max_megabytes=1), tmp_path / "served")


@pytest.fixture
def uploads(files, tmp_path) -> Path:
    """Copies, as an upload is one."""
    return shutil.copytree(files, tmp_path / "served" / "uploads")


def wanted(uploads, **changes) -> VideoRequest:
    files = {"portrait": "face.png", "landmarks": "face.csv", "speech": "voice.wav"}
    return VideoRequest(**{key: str(uploads / name) for key, name in files.items()} | {"steps": 2} | changes)


def made(service, asked, tell=lambda share, words: None):
    service.begin("visitor")
    return service.make(asked, "visitor", tell)


@pytest.mark.slow
def test_a_video_with_its_record_and_no_input_left(service, uploads):
    reports = []
    result = made(service, wanted(uploads, seed=3), lambda share, words: reports.append((share, words)))
    assert not result.failed
    assert result.video.name == "face_voice_seed3.mp4"
    assert result.record.suffix == ".json"
    assert result.words[0].startswith("face_voice_seed3.mp4: 13 frames, 64x64")
    assert {file.name for file in result.video.parent.iterdir()} == {result.video.name, result.record.name}
    shares = [share for share, _ in reports]
    assert all(0 <= share <= 1 for share in shares)
    steps = [words for _, words in reports if words.startswith("Sampling")]
    assert len(steps) == int(re.search(r"of (\d+)", steps[0])[1])
    assert all(re.search(r"about \d+ s left$", words) for words in steps[1:])
    assert all(before <= after for before, after in pairwise(share for share, words in reports if "Writing" in words))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"portrait": None}, "There is no portrait yet"),
        ({"speech": None}, "There is no speech yet"),
        ({"landmarks": None}, "face.png: this run was trained on data with landmark files"),
        ({"portrait": "voice.wav"}, "voice.wav: is not a picture; expected PNG, JPEG or WebP"),
        ({"speech": "face.png"}, "face.png: has no sound track"),
        ({"speech": "long.wav"}, "long.wav: lasts 3 s, at most 2 s are taken here"),
        ({"speech": "huge.wav"}, "huge.wav: has 2 MB, at most 1 MB are taken here"),
        ({"speech": "gone.wav"}, "gone.wav: was deleted after a while; upload it again"),
        ({"source": "image"}, "There is no picture to take the emotion from"),
        ({"source": "text", "text": " "}, "There are no words yet"),
        ({"source": "label", "label": "happy"}, "emotion.label: needs a label table"),
        ({"source": "video", "video": "smile.mp4"}, "smile.mp4: this run was trained on data with landmark files"),
        ({"steps": 1000}, "steps=1000"),
    ],
)
def test_what_cannot_be_made_is_told_in_words(service, uploads, changes, words):
    write_wav(uploads / "long.wav", tone(3), 16_000)
    write_wav(uploads / "huge.wav", np.zeros(1_000_000, np.float32), 48_000)
    named = ("portrait", "speech", "image", "video")
    placed = {key: str(uploads / value) if key in named and value else value for key, value in changes.items()}
    result = made(service, wanted(uploads, **placed))
    assert result.failed
    assert result.video is None
    assert words in result.words[0]
    assert str(service.folder) not in result.words[0]


def test_a_bug_is_told_without_its_insides(service, uploads, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("/secret/path")

    monkeypatch.setattr(service.pipeline, "generate", broken)
    result = made(service, wanted(uploads))
    assert result.failed
    assert "secret" not in result.words[0]
    assert "KeyError" in result.words[0]
    assert "secret" in caplog.text  # the terminal has it all


@pytest.mark.parametrize("end", ["stop", "leave"])
def test_who_stops_or_leaves_frees_the_device(service, uploads, end):
    reports = []

    def tell(share, words):
        reports.append(words)
        if len(reports) == 2:
            getattr(service, end)("visitor")

    result = made(service, wanted(uploads, steps=4), tell)
    assert result.words == ("Stopped.",)
    assert len(reports) <= 3
    assert not list((service.folder / "visitor").glob("*"))


def test_leaving_deletes_a_visitors_files_and_nobody_elses(service, uploads):
    result = made(service, wanted(uploads))
    copy = service.folder / "0123abcd" / result.video.name  # as Gradio keeps one
    copy.parent.mkdir()
    copy.write_bytes(result.video.read_bytes())
    service.begin("other")
    assert not service.make(wanted(uploads, speech=None), "other", lambda *_: None).video
    service.kept = frozenset({uploads / "face.csv"})
    service._uploads["other"] = {uploads / "face.png"}
    service.leave("visitor")
    assert not copy.exists()
    assert not (service.folder / "visitor").exists()
    assert not (uploads / "voice.wav").exists()
    assert (uploads / "face.png").exists()  # another visitor's too
    assert (uploads / "face.csv").exists()  # an example


def test_the_sources_are_those_the_run_has(service):
    assert service.sources == ("portrait", "image", "video")


def test_generation_errors_keep_their_keys(service):
    error = GenerationError(f"portrait={service.folder}/visitor/portrait/my face (1).png: shows no face")
    assert service._plain(error) == "portrait=my face (1).png: shows no face"
