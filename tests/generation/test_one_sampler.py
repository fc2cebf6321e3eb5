"""generate.py, validation callbacks and quality tools make the same pixels; sampling does not change the training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from callbacks.validation_videos import VideoMaker
from configs.emotion import EmotionConfig
from configs.generation import GuidanceConfig
from generation.batch import VideoCase
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.module import EthdModule
from lightning_modules.ethd.sampler import Sampler
from lightning_modules.vaid.checkpoint import load_vaid
from tools.quality.ethd import QualityRun


@pytest.fixture(scope="module")
def case(files, tmp_path_factory):
    """13 frames, with a training window of 8."""
    return VideoCase(files / "face.png", files / "voice.wav", tmp_path_factory.mktemp("made") / "out.mp4", steps=4)


@pytest.fixture(scope="module")
def batch(pipeline, case):
    """The case's portrait and speech as a shard stores them."""
    prepared = pipeline.prepare(case)
    portrait, encoders = prepared.portrait, pipeline.encoders
    frame = torch.from_numpy(portrait.frame)[None].permute(0, 3, 1, 2)
    return {
        "audio": encoders.audio(torch.from_numpy(prepared.speech.samples)).half()[None],
        "reference_latent": encoders.codec.encode(frame.contiguous()).half(),
        "reference_portrait": torch.from_numpy(portrait.x_ref)[None],
        "reference_boxes": torch.from_numpy(portrait.boxes)[None],
        "reference_expression": portrait.e_ref[None],
    }


@pytest.fixture(scope="module")
def run(runs, pipeline):
    """The run's averaged weights, the info of its checkpoint, and its V-AID.

    The weights use the export's memory: a CPU may round differently when weights are aligned differently.
    """
    ethd, info = load_ethd(runs / "ethd")
    exported = pipeline.exported.ethd.state_dict()
    assert all(torch.equal(weight, exported[name]) for name, weight in ethd.state_dict().items())
    ethd.load_state_dict(exported, assign=True)
    return ethd, info, load_vaid(info.vaid)


@pytest.fixture(scope="module")
def module(run):
    """The network as validation sees it: in training, with its averaged weights."""
    ethd, info, vaid = run
    module = EthdModule(info, vaid)
    module.ethd.load_state_dict(ethd.state_dict(), assign=True)
    return module.eval()


def generated(pipeline, case):
    prepared = pipeline.prepare(case)
    reference = pipeline.sampler.reference(prepared.portrait.frame)
    latents = pipeline.sampler.sample(reference, prepared.signals, prepared.speech.frames, prepared.sampling)
    return np.stack(list(pipeline.sampler.decode(latents)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["both", "lips", "expression"])
def test_a_validation_video_equals_the_generated_one(pipeline, case, batch, module, mode):
    wanted = generated(pipeline, replace(case, drive=mode))
    assert len(wanted) == 13
    maker = VideoMaker(lambda _: pipeline.encoders.codec, 1)
    maker.setup(torch.device("cpu"))
    assert np.array_equal(maker.make(module, batch, mode), wanted)


@pytest.mark.slow
def test_a_quality_tools_video_equals_the_generated_one(pipeline, case, files, batch, run):
    ethd, info, vaid = run
    tool = QualityRun(Sampler(ethd, info, pipeline.encoders.codec, torch.device("cpu")), vaid, case.steps)
    assert np.array_equal(tool.frames(batch, seed=3), generated(pipeline, replace(case, seed=3)))

    smile = replace(case, emotion=EmotionConfig(video=str(files / "smile.mp4")))
    e_v, _ = pipeline._faces.video(files / "smile.mp4")
    pingpong = e_v[[*range(10), 8, 7, 6]]
    assert np.array_equal(tool.frames(batch, seed=0, e_v=pingpong[None]), generated(pipeline, smile))
    held = tool.frames(batch, seed=0, e_cond=e_v[:1])
    assert not np.array_equal(held, tool.frames(batch, seed=0))


@pytest.mark.slow
def test_guidance_of_a_quality_tool_is_that_of_generation(guidable, case, batch):
    guidance = GuidanceConfig(lips=1.5, expression=2.0)
    tool = QualityRun(guidable.sampler, guidable.exported.vaid, case.steps)
    guided = tool.frames(batch, seed=0, guidance=guidance)
    assert np.array_equal(guided, generated(guidable, replace(case, guidance=guidance)))
    assert not np.array_equal(guided, tool.frames(batch, seed=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_leaves_the_trained_network_unchanged(pipeline, batch, module, dtype, request):
    """Weights keep precision, memory and mode, and the random state stays; a CPU samples in float32."""
    trained = EthdModule(module.info, module.vaid)
    trained.ethd.to(dtype).train()
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in trained.ethd.named_parameters()}
    state = torch.get_rng_state()
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(dtype)  # as Lightning does under bf16-true
    maker = VideoMaker(lambda _: pipeline.encoders.codec, 1)
    maker.setup(torch.device("cpu"))
    made = maker.make(trained, batch)
    assert torch.get_default_dtype() == dtype
    assert torch.equal(torch.get_rng_state(), state)
    assert made.dtype == np.uint8
    assert trained.ethd.training
    for name, weight in trained.ethd.named_parameters():
        address, value = before[name]
        assert (weight.dtype, weight.data_ptr(), weight.requires_grad) == (dtype, address, True)
        assert torch.equal(weight, value)
    shared = Sampler(trained.ethd, trained.info, pipeline.encoders.codec, torch.device("cpu")).ethd.parameters()
    assert {w.data_ptr() for w in shared}.isdisjoint({a for a, _ in before.values()}) == (dtype != torch.float32)
