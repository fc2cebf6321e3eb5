"""The pipeline from input files to the output file: length, sound, record, repeatability, no partial files."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.emotion import EmotionConfig
from configs.generation import GuidanceConfig, LipsConfig, MotionConfig
from generation.batch import VideoCase
from generation.errors import GenerationError
from generation.model_files import ModelFiles
from generation.pipeline import hardly_trained
from generation.record import DISCLOSURE, difference, fingerprint
from generation.streams import LiveStream
from lightning_modules.emotion.sources import EmotionError
from lightning_modules.ethd.guidance import GuidanceError
from lightning_modules.ethd.sampler import SamplingError
from media import FrameReader, MediaError, VideoWriter, probe, read_sound
from runtime.errors import UserError
from runtime.files import WriteError, sha256_of
from tests.helpers.inputs import tone
from tests.helpers.sound import write_wav


@pytest.fixture
def case(files, tmp_path) -> VideoCase:
    return VideoCase(files / "face.png", files / "voice.wav", tmp_path / "out.mp4", steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_the_video_has_the_length_and_sound_of_the_speech(pipeline, case, tmp_path, seconds):
    write_wav(tmp_path / "a.wav", tone(seconds, 48_000), 48_000)
    made = pipeline.generate(replace(case, speech=tmp_path / "a.wav"))
    frames = -(-round(seconds * 16_000) * 25 // 16_000)
    assert made.frames == len(FrameReader(made.path)) == frames
    info = probe(made.path)
    assert (info.width, info.height, info.fps, info.video_codec) == (64, 64, 25.0, "h264")
    assert (info.sound_rate, info.audio_codec) == (48_000, "aac")
    assert abs(info.sound_duration - frames / 25) < 1e-3
    if seconds > 0.1:
        found = read_sound(made.path)
        assert np.corrcoef(found[: len(tone(seconds))], tone(seconds))[0, 1] > 0.98


@pytest.mark.parametrize(
    ("trained", "window", "note"),
    [
        ({}, 120, None),  # an export of an earlier version
        ({120: 900, 40: 100}, 120, None),
        ({120: 90, 80: 500, 40: 410}, 120, "window=120: 9% of the .* or more: try window=80"),
        ({120: 90, 80: 500, 40: 410}, 100, "window=100: 9%"),
        ({120: 90, 80: 500, 40: 410}, 80, None),
        ({48: 1000}, 120, "window=120: 0% of the training's frames were in windows this long; .* try window=48"),
    ],
)
def test_windows_that_were_hardly_trained_are_noted(trained, window, note):
    found = hardly_trained(window, trained)
    assert len(found) == (note is not None)
    assert note is None or re.match(note, found[0])


def test_the_note_is_of_the_windows_of_the_video(pipeline, case, monkeypatch):
    monkeypatch.setattr(pipeline, "exported", replace(pipeline.exported, trained_windows={4: 1000, 8: 10}))
    (note,) = (note for note in pipeline.prepare(case).notes if "window=" in note)
    assert note.startswith("window=8: 1% of the training's frames")
    assert not [note for note in pipeline.prepare(replace(case, window=4, overlap=1)).notes if "window=" in note]


@pytest.mark.slow
def test_equal_cases_give_equal_bytes_and_another_seed_does_not(pipeline, case):
    first = pipeline.generate(case).path.read_bytes()
    record = case.output.with_suffix(".json").read_bytes()
    assert pipeline.generate(case).path.read_bytes() == first
    assert case.output.with_suffix(".json").read_bytes() == record
    assert pipeline.generate(replace(case, seed=1)).path.read_bytes() != first


def test_the_record_holds_inputs_settings_and_weights(pipeline, case, files, runs):
    pipeline.generate(replace(case, emotion=EmotionConfig(strength=0.5), seed=3))
    record = json.loads(case.output.with_suffix(".json").read_text())
    assert record["video"] == {"file": "out.mp4", "frames": 13, "fps": 25, "size": [64, 64]}
    assert record["inputs"]["speech"] == {"file": str(files / "voice.wav"), "sha256": sha256_of(files / "voice.wav")}
    assert record["settings"]["seed"] == 3
    assert record["settings"]["emotion"] == {"strength": 0.5}
    assert record["weights"] == {"ethd": sha256_of(runs / "ethd" / "export" / "ethd.safetensors")}
    sampling = {"seed": 3, "steps": 2, "window": 8, "overlap": 2, "decode_frames": None, "training_steps": 7}
    guidance = {"lips": 1.0, "expression": 1.0, "low": 0.0, "high": 1.0}
    assert record["sampling"] == {**sampling, "guidance": guidance}
    assert record["encoders"]["codec"]["name"] == "patch"


@pytest.mark.slow
def test_a_driving_video_and_an_image_change_the_face(pipeline, case, files):
    plain = pipeline.generate(case).path.read_bytes()
    driven = pipeline.generate(replace(case, emotion=EmotionConfig(video=str(files / "smile.mp4"))))
    assert "10 frames extended to 13 by pingpong" in driven.notes[0]
    assert driven.path.read_bytes() != plain
    with pytest.raises(GenerationError, match=r"has 10 frames, the speech 13"):
        pipeline.generate(replace(case, emotion=EmotionConfig(video=str(files / "smile.mp4")), extend="error"))
    pictured = pipeline.generate(replace(case, emotion=EmotionConfig(image=str(files / "face.png"))))
    assert pictured.path.read_bytes() == plain  # the portrait's own expression, named in another way


@pytest.mark.slow
def test_blinks_are_in_the_driving_expression_and_in_the_record(pipeline, case, tmp_path):
    write_wav(tmp_path / "long.wav", tone(2.0, 16_000), 16_000)
    case = replace(case, speech=tmp_path / "long.wav", steps=1)
    places = list(pipeline.encoders.motion.eyelids)
    scale = pipeline.exported.vaid.expression_scale

    def lids(blinks, **changes):
        changes["motion"] = MotionConfig(blinks=blinks)
        return scale.restore(pipeline.prepare(replace(case, **changes)).signals.e_dri)[0, :, places]

    none, many = lids(0), lids(60)
    closed = none - many > 1e-4
    assert torch.equal(closed[:, 0], closed[:, 1])
    assert int((closed[1:, 0] & ~closed[:-1, 0]).sum() + closed[0, 0]) == 2
    assert many[closed].min().abs() < 1e-5  # closed eyes
    assert torch.equal(lids(60), many)
    assert not torch.equal(lids(60, seed=1), many)
    asked = [replace(case, motion=MotionConfig(blinks=blinks)) for blinks in (None, 0)]
    same = [pipeline.prepare(one).signals.e_dri.clone() for one in asked]
    for signals in same:
        signals[..., places] = 0
    assert torch.equal(*same)
    pipeline.generate(replace(case, motion=MotionConfig(blinks=30)))
    assert json.loads(case.output.with_suffix(".json").read_text())["settings"]["motion"] == {"blinks": 30}


def test_blinks_need_eyelids(pipeline, case, monkeypatch):
    monkeypatch.delattr(type(pipeline.encoders.motion), "eyelids")
    with pytest.raises(GenerationError, match=r"^motion\.blinks=5: .* encoder landmarks has no eyelids"):
        pipeline.prepare(replace(case, motion=MotionConfig(blinks=5)))


@pytest.mark.slow
def test_guidance_and_the_strength_of_the_lips_are_in_the_video_and_its_record(guidable, case):
    plain = guidable.generate(case).path.read_bytes()
    changes = {"guidance": GuidanceConfig(lips=2.0, high=0.9)}, {"lips": LipsConfig(strength=1.5)}
    for change in changes:
        changed = replace(case, **change)
        assert guidable.generate(changed).path.read_bytes() != plain
        record = json.loads(case.output.with_suffix(".json").read_text())
        assert difference(changed, record) is None
        assert difference(case, fingerprint(case, guidable.weights, guidable.face, None)) == (
            "was made with other settings"
        )
    assert record["settings"]["lips"] == {"strength": 1.5}
    guidable.generate(replace(case, **changes[0]))
    record = json.loads(case.output.with_suffix(".json").read_text())
    assert record["settings"]["guidance"] == {"lips": 2.0, "high": 0.9}
    assert record["sampling"]["guidance"] == {"lips": 2.0, "expression": 1.0, "low": 0.0, "high": 0.9}


def test_guidance_of_a_condition_that_is_off_is_noted(guidable, case):
    guidance = GuidanceConfig(expression=2.0)
    prepared = guidable.prepare(replace(case, drive="lips", guidance=guidance))
    assert "guidance.expression: has no effect with drive=lips" in prepared.notes
    assert prepared.sampling.guidance.expression == 1


@pytest.mark.slow
def test_paste_back_gives_the_whole_picture(pipeline, case):
    made = pipeline.generate(replace(case, paste_back=True))
    assert made.size == (128, 128)
    assert FrameReader(made.path).size == (128, 128)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sampling", "writing"])
def test_an_interrupt_leaves_no_partial_file(pipeline, case, stage):
    pipeline.generate(case)
    before = {file.name: file.read_bytes() for file in case.output.parent.iterdir()}
    assert before.keys() == {"out.json", "out.mp4"}

    def stop(progress):
        if progress.stage == stage and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.generate(replace(case, seed=9), stop)
    assert {file.name: file.read_bytes() for file in case.output.parent.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"paste_back": True}])
def test_a_caller_gets_the_frames_of_the_file(pipeline, case, tmp_path, change):
    """Frames before any file; the same that the file is encoded from."""
    case = replace(case, **change)
    prepared = pipeline.prepare(case)
    frames = list(pipeline.frames(prepared))
    assert not case.output.exists()
    assert len(frames) == prepared.speech.frames == 13
    assert {frame.shape for frame in frames} == {(*prepared.size[::-1], 3)}
    with VideoWriter(tmp_path / "own.mp4", size=prepared.size, sound=prepared.speech.sound, metadata=DISCLOSURE) as own:
        for frame in frames:
            own.write(frame)
    assert pipeline.generate(case).path.read_bytes() == (tmp_path / "own.mp4").read_bytes()


@pytest.mark.slow
def test_a_stream_changes_nothing_in_the_file(pipeline, case):
    plain = pipeline.generate(case).path.read_bytes()
    record = case.output.with_suffix(".json").read_bytes()
    file = io.BytesIO()
    assert pipeline.generate(case, stream=LiveStream(file, "memory", "rgb24")).path.read_bytes() == plain
    assert case.output.with_suffix(".json").read_bytes() == record
    frames = b"".join(frame.tobytes() for frame in pipeline.frames(pipeline.prepare(case)))
    assert file.getvalue() == frames


@pytest.mark.slow
def test_frames_decoded_together_are_a_setting_of_the_record(pipeline, case):
    """The patch codec decodes frames on their own, so their number changes no pixel."""
    plain = pipeline.generate(case).path.read_bytes()
    assert "decode_frames" not in json.loads(case.output.with_suffix(".json").read_text())["settings"]
    assert pipeline.generate(replace(case, decode_frames=3)).path.read_bytes() == plain
    record = json.loads(case.output.with_suffix(".json").read_text())
    assert record["settings"]["decode_frames"] == 3


def test_an_impossible_case_is_refused(pipeline, case, tmp_path):
    (tmp_path / "file").touch()
    for change, error, words in (
        ({"portrait": tmp_path / "none.png"}, UserError, "no such file"),
        ({"speech": tmp_path / "none.wav"}, MediaError, "no such file"),
        ({"output": tmp_path / "file" / "out.mp4"}, WriteError, r"file.*cannot be written"),
        ({"emotion": EmotionConfig(label="happy")}, EmotionError, r"emotion\.label: needs a label table"),
        ({"emotion": EmotionConfig(text="happy")}, EmotionError, r"emotion\.text: needs a text mapping"),
        ({"overlap": 8}, SamplingError, r"overlap=8"),
        ({"guidance": GuidanceConfig(lips=2.0)}, GuidanceError, r"guidance\.lips=2: .* model\.lip_dropout=0"),
    ):
        with pytest.raises(error, match=words):
            pipeline.generate(replace(case, **change))
    assert not case.output.exists()


def test_three_lines_in_a_notebook(runs, files, tmp_path):
    pipeline = ModelFiles(runs / "ethd", vaid=runs / "other_vaid").load()
    made = pipeline.generate(VideoCase(files / "face.png", files / "voice.wav", Path(tmp_path / "out.mp4"), steps=1))
    assert made.frames == 13
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["weights"]["vaid"] == sha256_of(runs / "other_vaid" / "checkpoints" / "last.ckpt")
