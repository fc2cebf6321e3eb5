"""Encoder processes: shared by worker processes, started again, and their errors. Two on the CPU stand for two GPUs."""

import os
import queue
import signal
import time

import numpy as np
import pytest
import torch

from configs.command_line import compose
from configs.preparation import EncoderConfig, PrepareConfig
from encoders.protocols import FaceTrack
from preparation.encoder_processes import (
    BATCH,
    EncoderDied,
    EncoderProcesses,
    EncoderWork,
    RemoteEncoders,
    _Request,
    encoder_devices,
    joined_requests,
)
from preparation.encoders import Encoders, encode_latents, encode_within
from runtime.devices import DeviceError
from tests.helpers.codecs import RoundedCodec


def config_of(*keys):
    return compose("prepare", PrepareConfig, ["dataset=folder", "preset=tiny", "output=x", *keys])


@pytest.fixture
def frames():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 64, 64), np.uint8))


def broken(how):
    config = config_of("plugins=[codec:tests.helpers.codecs.BrokenCodec]")
    config.encoders.codec = EncoderConfig("broken", {"how": how})
    return config


def of_process(processes, number):
    return RemoteEncoders(config_of(), [processes.places[number]]).encoders


def test_every_gpu_gets_a_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert encoder_devices([], "cuda") == [f"cuda:{number}" for number in range(8)]
    assert encoder_devices(["cuda:1", "cuda:5"], "cuda") == ["cuda:1", "cuda:5"]
    with pytest.raises(DeviceError, match="no cuda:8 here, only cuda:0, cuda:1"):
        encoder_devices(["cuda:0", "cuda:8"], "cuda")
    assert encoder_devices([], "mps") == ["mps"]
    assert encoder_devices([], "cpu") == []
    assert encoder_devices(["cpu", "cpu"], "cpu") == ["cpu", "cpu"]


@pytest.mark.slow
def test_proxies_return_what_the_encoders_return(frames):
    config = config_of()
    here = Encoders.build(config.encoders, "cpu")
    speech = torch.sin(torch.arange(40 * 640) / 20)
    track = FaceTrack(
        np.random.default_rng(1).uniform(0, 64, (40, 68, 2)).astype(np.float32), "ibug68", np.ones(40, bool)
    )
    with EncoderProcesses(config, ["cpu", "cpu"]) as processes:
        remote = RemoteEncoders(config, processes.places)
        for _ in range(4):  # in turn
            there = remote.next_clip()
            assert there.identities() == here.identities()
            assert there.dimensions(64) == here.dimensions(64)
            assert torch.equal(there.codec.encode(frames), here.codec.encode(frames))
            assert torch.equal(there.audio(speech), here.audio(speech))
            for ours, theirs in zip(there.motion(None, track), here.motion(None, track), strict=True):
                assert torch.equal(ours, theirs)
        uses = processes.uses()
    assert [(use.device, use.frames, use.deaths) for use in uses] == [("cpu", 80, 0), ("cpu", 80, 0)]


@pytest.mark.slow
def test_errors_of_an_encoder_process_are_raised_in_the_worker(frames):
    with EncoderProcesses(broken("memory"), ["cpu"]) as processes:
        codec = of_process(processes, 0).codec
        with pytest.raises(MemoryError, match="CUDA out of memory"):
            codec.encode(torch.zeros_like(frames))
        with pytest.raises(ValueError, match="frame_size must be a multiple of 4"):
            codec.encode(frames[..., :62])
        assert codec.encode(frames).shape == (40, 48, 16, 16)


@pytest.mark.slow
def test_a_process_that_ends_is_started_again(frames):
    with EncoderProcesses(broken("kill"), ["cpu"]) as processes:
        remote = RemoteEncoders(config_of(), processes.places)
        before = remote.next_clip().codec.encode(frames)
        with pytest.raises(EncoderDied):
            remote.next_clip().codec.encode(torch.zeros_like(frames))
        assert torch.equal(remote.next_clip().codec.encode(frames), before)
        os.kill(processes._processes[0].pid, signal.SIGKILL)  # while this worker has sent it nothing
        while processes._deaths != [2]:
            time.sleep(0.02)
        assert torch.equal(remote.next_clip().codec.encode(frames), before)
        assert processes.uses()[0].deaths == 2


def request(link, frames, bfloat16=False):
    return _Request(link, "codec", (frames, bfloat16))


def test_frames_of_several_clips_are_one_batch():
    small, large = np.zeros((12, 8, 8, 3), np.uint8), np.zeros((12, 16, 16, 3), np.uint8)
    first = request("a", small)
    waiting = [request("b", small), request("c", large), _Request("d", "audio", ()), request("e", small[:4]),
               request("f", small), request("g", small[:2])]  # fmt: skip
    together = joined_requests(first, waiting)
    assert [each.link for each in together] == ["a", "b", "e"]
    assert sum(len(each.payload[0]) for each in together) <= BATCH
    assert [each.link for each in waiting] == ["c", "d", "f", "g"]


def test_joined_frames_give_the_latents_of_their_own_clip(monkeypatch):
    """The batches of a GPU, with the codec of preset tiny on the CPU."""
    answers = {}

    class Link:
        def __init__(self, name):
            self.name = name

        def send(self, answer):
            answers.setdefault(self.name, []).append(answer)
            if sum(map(len, answers.values())) == 6:
                raise KeyboardInterrupt  # ends the endless work

    config = config_of()
    built = Encoders.build(config.encoders, "cpu")
    monkeypatch.setattr(Encoders, "build", lambda config, device: built)
    noise = np.random.default_rng(2)
    pieces = {name: [noise.integers(0, 256, (8, 64, 64, 3), np.uint8) for _ in range(2)] for name in "abc"}
    requests: queue.Queue = queue.Queue()
    for number in range(2):
        for name in "abc":
            requests.put(request(Link(name), pieces[name][number]))
    batches = []
    encode = built.codec.encode
    monkeypatch.setattr(built.codec, "encode", lambda frames: batches.append(len(frames)) or encode(frames))
    with pytest.raises(KeyboardInterrupt):
        EncoderWork(config, "cuda:0").run(requests)
    assert batches == [32, 16]
    for name, sent in pieces.items():
        for piece, answer in zip(sent, answers[name], strict=True):
            np.testing.assert_array_equal(answer, encode(torch.from_numpy(piece).permute(0, 3, 1, 2)).numpy())


def test_latents_in_bfloat16_stay_within_the_tolerance(frames):
    codec = RoundedCodec()
    exact = codec.encode(frames)
    assert encode_within(codec, frames, "float32", 0.02)[1:] == ("float32", None)
    latents, precision, error = encode_within(codec, frames, "bfloat16", 0.02)
    assert (precision, latents.dtype) == ("bfloat16", torch.float32)
    assert 0 < error < 0.01
    assert not torch.equal(latents, exact)
    whole = float(((latents - exact).square().mean() / exact.square().mean()).sqrt())
    assert whole == pytest.approx(error, rel=0.3)  # one frame tells about all
    latents, precision, again = encode_within(codec, frames, "bfloat16", error / 2)
    assert (precision, again) == ("float32", error)
    assert torch.equal(latents, exact)
    assert torch.equal(encode_latents(codec, frames, bfloat16=False), exact)
