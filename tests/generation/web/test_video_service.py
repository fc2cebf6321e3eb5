"""The service behind the web page: limits, messages, Stop at every stage, and deletion of inputs."""

import json
import re
import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import generation.pipeline
from configs.app import AppConfig
from configs.generation import GuidanceConfig
from generation.errors import GenerationError
from generation.web import looking
from generation.web.video_request import guidance_in
from generation.web.video_service import VideoRequest, VideoService
from lightning_modules.ethd.guidance import Guidance
from tests.helpers.hostile_media import make_video
from tests.helpers.inputs import tone
from tests.helpers.sound import write_wav

VISITOR, PAGE = "visitor", "page"


@pytest.fixture
def service(pipeline, tmp_path):
    found = VideoService(pipeline, AppConfig(ethd="run", max_seconds=2, max_megabytes=1), tmp_path / "served")
    found.visitors.bind(VISITOR, PAGE)
    return found


@pytest.fixture
def given(service, files, tmp_path):
    """A request whose files are uploads; other files are uploaded by their names in ``files`` or ``tmp_path``."""

    def upload(name: str) -> str:
        source = files / name if (files / name).exists() else tmp_path / name
        path = service.visitors.new_file(VISITOR, name)
        if source.exists():
            shutil.copy(source, path)
        return str(path)

    def wanted(**changes) -> VideoRequest:
        named = {"portrait": "face.png", "landmarks": "face.csv", "speech": "voice.wav"} | changes
        kept = ("source", "label", "level", "text", "strength", "seed", "steps", "paste_back")
        kept += ("lips_strength", "guidance_lips", "guidance_expression")
        values = {key: value if key in kept or value is None else upload(value) for key, value in named.items()}
        return VideoRequest(**{"steps": 2} | values)

    return wanted


def made(service, request, tell=lambda share, words: None):
    service.begin(PAGE)
    return service.make(request, PAGE, tell)


def home(service) -> Path:
    return service.folder / "visitors" / VISITOR / PAGE


@pytest.mark.slow
def test_a_video_and_its_record_are_kept_and_inputs_deleted(service, given):
    shown = []
    result = made(service, given(seed=3), lambda share, words: shown.append((share, words)))
    assert not result.failed, result.words
    assert result.video.name == "face_voice_seed3.mp4"
    assert result.words[0].startswith("face_voice_seed3.mp4: 13 frames, 64x64")
    assert {file.name for file in home(service).iterdir()} == {result.video.name, result.record.name}
    shares = [share for share, _ in shown]
    assert all(0 <= share <= 1 for share in shares)
    steps = [words for _, words in shown if words.startswith("Sampling")]
    assert len(steps) == int(re.search(r"of (\d+)", steps[0])[1])
    assert all(re.search(r"about \d+ s left$", words) for words in steps[1:])
    assert all(before <= after for before, after in pairwise(share for share, words in shown if "Writing" in words))


@pytest.mark.slow
def test_a_record_names_files_without_folders(service, given):
    record = json.loads(made(service, given()).record.read_text())
    assert record["inputs"]["portrait"]["file"] == "face.png"
    assert record["schema"].startswith("emotivetalk.generation")
    assert str(service.folder) not in json.dumps(record)


@pytest.mark.slow
def test_the_video_is_the_same_as_without_a_page(service, given, pipeline, tmp_path, files):
    from generation.batch import VideoCase

    alone = pipeline.generate(VideoCase(files / "face.png", files / "voice.wav", tmp_path / "x.mp4", steps=2))
    assert made(service, given()).video.read_bytes() == alone.path.read_bytes()


def test_scales_of_the_training_are_not_in_the_request():
    request = VideoRequest("a", "b", guidance_lips=1.5, guidance_expression=1.0)
    assert guidance_in(request, Guidance()) == GuidanceConfig(lips=1.5)
    assert guidance_in(request, Guidance(1.5, 2.0)) == GuidanceConfig(expression=1.0)


@pytest.mark.slow
def test_guidance_of_a_request_is_in_its_record(service, given, guidable):
    service.pipeline = guidable
    result = made(service, given(guidance_lips=1, guidance_expression=2, lips_strength=0.5))
    assert not result.failed, result.words
    assert result.video.name == "face_voice_lips-x0.5_guided-expression2.mp4"
    record = json.loads(result.record.read_text())
    assert record["settings"]["guidance"] == {"expression": 2}
    assert record["settings"]["lips"] == {"strength": 0.5}
    assert record["sampling"]["guidance"]["expression"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"portrait": None}, "There is no portrait yet"),
        ({"speech": None}, "There is no speech yet"),
        ({"landmarks": None}, "face.png: this run was trained on data with landmark files"),
        ({"landmarks": "gone.csv"}, "face.png: was deleted after a while; upload it again"),
        ({"landmarks": "huge.csv"}, "face.csv: has 21 MB, a landmark file may have 20 MB"),
        ({"portrait": "voice.wav"}, "voice.wav: is sound; expected a picture, or a video of which a frame is used"),
        ({"portrait": "face.csv"}, "face.csv: is named as a landmark file"),
        ({"portrait": "wide.png", "paste_back": True}, "wide.png: has 3100x3000 pixels; a picture that the face is"),
        ({"speech": "face.png"}, "face.png: has no video track and no sound of its own"),
        ({"speech": "silent.mkv"}, "silent.mkv: has no sound track"),
        ({"speech": "long.wav"}, "long.wav: lasts 3 s, at most 2 s are taken here"),
        ({"speech": "huge.wav"}, "huge.wav: has 2 MB, at most 1 MB are taken here"),
        ({"speech": "gone.wav"}, "gone.wav: was deleted after a while; upload it again"),
        ({"source": "image"}, "There is no picture to take the emotion from"),
        ({"source": "text", "text": " "}, "There are no words yet"),
        ({"source": "label", "label": "happy"}, "emotion.label: needs a label table"),
        ({"source": "video", "video": "smile.mp4"}, "smile.mp4: this run was trained on data with landmark files"),
        (
            {"source": "video", "video": "voice.wav", "source_landmarks": "face.csv"},
            "voice.wav: has no video track, only sound",
        ),
        ({"steps": 1000}, "steps=1000"),
        ({"guidance_lips": 2}, "guidance.lips=2: this network was trained with model.lip_dropout=0"),
    ],
)
def test_an_impossible_request_gets_a_message(service, given, tmp_path, changes, words):
    write_wav(tmp_path / "long.wav", tone(3), 16_000)
    write_wav(tmp_path / "huge.wav", np.zeros(1_000_000, np.float32), 48_000)
    (tmp_path / "huge.csv").write_bytes(bytes(21_000_000))
    if "wide.png" in changes.values():
        Image.new("L", (3100, 3000)).save(tmp_path / "wide.png")
    make_video(tmp_path / "silent.mkv", times=[0, 40, 80])
    result = made(service, given(**changes))
    assert result.failed
    assert result.video is None
    assert words in result.words[0]
    assert str(service.folder) not in result.words[0]
    assert not home(service).exists()


def test_an_unexpected_error_shows_no_internals(service, given, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("/secret/path")

    monkeypatch.setattr(service.pipeline, "generate", broken)
    result = made(service, given())
    assert result.failed
    assert "secret" not in result.words[0]
    assert "KeyError" in result.words[0]
    assert "secret" in caplog.text  # the traceback is in the log


@pytest.mark.parametrize("error", [IsADirectoryError(21, "Is a directory"), PermissionError(13, "Permission denied")])
@pytest.mark.parametrize("place", ["", "/visitors/x", "/../elsewhere/models/weights.pt"])
def test_an_error_of_the_system_shows_no_folder(service, given, monkeypatch, error, place):
    error.filename = f"{service.folder}{place}"

    def broken(*_):
        raise error

    monkeypatch.setattr(service.pipeline, "generate", broken)
    assert str(service.folder) not in made(service, given()).words[0]
    assert "/" not in made(service, given()).words[0]


SHOWN = {"waiting": "Waiting; 1", "sampling": "Sampling, step 1 ", "writing": "Writing, frame 1 "}
WORK = {
    "copying": (None, "_place"),
    "looking": (looking, "look_at_inputs"),
    "portrait": (generation.pipeline, "read_portrait"),
    "speech": (generation.pipeline, "read_speech"),
    "driving": (generation.pipeline, "driving_signals"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*SHOWN, *WORK])
@pytest.mark.parametrize("end", ["stop", "close"])
def test_stop_ends_a_request_at_every_stage(service, given, monkeypatch, stage, end):
    """Stop is pressed while a stage runs; the visitor sees no further step."""
    shown: list[str] = []
    before: list[int] = []  # messages before Stop

    def stop():
        before.append(len(shown))
        getattr(service, end)(*([PAGE] if end == "stop" else []))

    def stop_in(owner, name):
        real = getattr(owner, name)

        def work(*args, **kwargs):
            stop()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, work)

    def tell(share, words):
        shown.append(words)
        if words.startswith(SHOWN.get(stage, "-")):
            stop()

    held, done = threading.Event(), threading.Event()

    def hold():
        with service.queue.turn("other", lambda: None, lambda before: None):
            held.set()
            done.wait(60)

    if stage in WORK:
        stop_in(service if stage == "copying" else WORK[stage][0], WORK[stage][1])
    if stage == "waiting":
        threading.Thread(target=hold).start()
        held.wait(60)
    result = made(service, given(steps=4), tell)
    done.set()
    assert result.words == ("Stopped.",)
    assert before[0] == len(shown), shown
    assert not home(service).exists()


@pytest.mark.slow
def test_stop_ends_a_look_that_waits_for_others(service, given):
    taken = [looking.AT_ONCE.acquire() for _ in range(2)]
    answers = []
    thread = threading.Thread(target=lambda: answers.append(made(service, given())))
    try:
        thread.start()
        time.sleep(0.5)
        assert not answers
        service.stop(PAGE)
        thread.join(10)
    finally:
        for _ in taken:
            looking.AT_ONCE.release()
    assert answers[0].words == ("Stopped.",)


def test_another_visitors_upload_is_not_used(service, files):
    path = service.visitors.new_file("other", "face.png")
    shutil.copy(files / "face.png", path)
    request = VideoRequest(portrait=str(path), landmarks=str(path), speech=str(path))
    assert made(service, request).words[0] == "face.png: was deleted after a while; upload it again."


def test_a_request_of_a_closed_page_gets_a_message(service):
    assert service.make({}, "closed", lambda *_: None).words == ("This page was closed; open it again.",)


def test_sources_are_those_of_the_run(service):
    assert service.sources == ("portrait", "image", "video")


def test_generation_errors_keep_their_keys(service):
    error = GenerationError(f"portrait={service.folder}/visitor/portrait/my face (1).png: shows no face")
    assert service._message(error) == "portrait=my face (1).png: shows no face"
