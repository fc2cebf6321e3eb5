"""Every generated file says in its metadata that it is synthetic, where other programs look for it."""

import json
import shutil
import subprocess

import av
import pytest

from generation.batch import VideoCase

# https://cv.iptc.org/newscodes/digitalsourcetype/: media "created algorithmically using a model derived from sampled
# content".
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def video(pipeline, files, tmp_path_factory):
    output = tmp_path_factory.mktemp("marked") / "out.mp4"
    return pipeline.generate(VideoCase(files / "face.png", files / "voice.wav", output, steps=1)).path


def check(tags):
    assert "Synthetic" in tags["comment"]
    assert "not a recording" in tags["comment"]
    assert tags["digital_source_type"] == TRAINED


@pytest.mark.slow
def test_the_container_carries_it(video):
    with av.open(str(video)) as container:
        check(container.metadata)


def test_the_record_repeats_it(video):
    check(json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))["disclosure"])


def test_ffprobe_shows_it(video):
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("ffprobe is not installed")
    result = subprocess.run([program, "-v", "error", "-show_format", "-of", "json", str(video)], capture_output=True)
    check(json.loads(result.stdout)["format"]["tags"])
