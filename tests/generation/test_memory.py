"""Memory of generation: the count is proportional, what fits is its inverse, a card that is too small is named."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from configs.models import EthdConfig
from datamodules.schema import Dimensions
from encoders.codecs.taef2 import PIXELS_AT_ONCE, build_decoder
from generation.batch import VideoCase
from generation.errors import GenerationError
from generation.memory import DECODING, ROUGH, GenerationMemory, frame_bytes, memory_of
from lightning_modules.ethd.checkpoint import build_ethd
from lightning_modules.ethd.network import DrivingSignals
from lightning_modules.ethd.sampler import SamplingSettings
from runtime.peak_memory import GIB, PeakMemory

MEMORY = GenerationMemory(4 * GIB, GIB / 16, GIB, 16)
HOW = SamplingSettings(0, 25, 120, 24)


@pytest.mark.slow
def test_the_count_is_that_of_a_real_window(pipeline):
    """Real tensors of two windows, without the weights' views, which the counter takes for new tensors."""
    info = pipeline.exported.info
    weights, frame = frame_bytes(info.config, info.dimensions, info.frame_side, torch.float32)
    assert weights == sum(parameter.nbytes for parameter in pipeline.exported.ethd.parameters())
    sizes = info.dimensions

    def peak(frames, passes):
        with torch.no_grad(), PeakMemory() as memory:
            ethd = build_ethd(info.config, sizes, info.frame_side)
            signals = DrivingSignals(
                torch.rand(passes, 2, 4),
                torch.randn(passes, sizes.expression_width),
                torch.randn(passes, frames, sizes.lip_width),
                torch.randn(passes, frames, sizes.expression_width),
            )
            latent = (sizes.latent_channels, sizes.latent_size, sizes.latent_size)
            ethd(torch.randn(passes, frames, *latent), torch.zeros(passes), torch.randn(passes, *latent), signals)
        return memory.peak - weights

    for frames, passes in ((8, 1), (24, 1), (8, 3)):
        assert peak(frames, passes) == pytest.approx(frames * passes * frame, rel=0.1)
    assert frame < ROUGH * info.config.unet.channels[0] * sizes.latent_size**2 * 4


@pytest.mark.nightly
def test_the_count_of_preset_paper_is_proportional_and_bounded():
    sizes = Dimensions(4, 64, 12, 768, 512, 30)
    weights, frame = frame_bytes(EthdConfig(), sizes, 512, torch.bfloat16)
    assert frame_bytes(EthdConfig(), sizes, 512, torch.bfloat16, 120) == (weights, pytest.approx(frame, rel=0.01))
    wide = replace(sizes, latent_size=128)
    assert frame_bytes(EthdConfig(), wide, 1024, torch.bfloat16)[1] == pytest.approx(4 * frame, rel=0.01)
    assert frame < ROUGH * 320 * 64**2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("codec", DECODING)
def test_the_bytes_of_decoding_are_counted(codec):
    with FakeTensorMode(), torch.no_grad():
        if codec == "svd":
            from diffusers import AutoencoderKLTemporalDecoder

            network = AutoencoderKLTemporalDecoder(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                layers_per_block=2,
            )
            latents, decode = torch.randn(4, 4, 32, 32), lambda z: network.decode(z, num_frames=4).sample
        else:
            assert DECODING[codec][1] * 512**2 == PIXELS_AT_ONCE
            latents, decode = torch.randn(4, 32, 32, 32), build_decoder()
        with PeakMemory() as memory:
            decode(latents)
    assert memory.peak / (4 * 256**2) == pytest.approx(DECODING[codec][0], rel=0.01)


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("card", [12, 16, 24, 48])
def test_what_fits_is_the_largest_that_fits(card, passes):
    card *= GIB
    window, frames = MEMORY.window(card, passes), MEMORY.frames(card)
    assert MEMORY.sampling(window, passes) <= card < MEMORY.sampling(window + 1, passes)
    assert MEMORY.decoding(frames) <= card
    assert frames == 16 or MEMORY.decoding(frames + 1) > card
    assert MEMORY.window(5 * GIB) == MEMORY.frames(5 * GIB) == 0


@pytest.mark.parametrize(
    ("how", "passes", "card", "words"),
    [
        (HOW, 1, 48, None),
        (HOW, 1, 24, None),
        (replace(HOW, window=300), 1, 24, "window=300: sampling needs about 25.9 GiB, card has 24.0 GiB; set "
         "window=271"),
        (HOW, 3, 24, "window=120: sampling needs about 29.8 GiB, card has 24.0 GiB; set window=90"),
        (HOW, 1, 16, "decode_frames=16: decoding needs about 23.0 GiB, card has 16.0 GiB; set decode_frames=9, or "
         "decode_device=cpu"),
        (replace(HOW, decode_frames=8), 1, 16, None),
        (HOW, 1, 6, "window=120: sampling needs about 14.1 GiB, card has 6.0 GiB; use a larger GPU, or device=cpu"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(how, passes, card, words):
    assert MEMORY.misfit(how, 1000, passes, card * GIB, "card") == words


def test_a_codec_on_the_host_needs_no_memory_of_the_card():
    host = GenerationMemory(4 * GIB, GIB / 64)
    assert host.misfit(HOW, 1000, 1, 12 * GIB, "card") is None
    assert host.frames(8 * GIB) == 1
    assert "set decode_device=cpu" in replace(MEMORY, decoded=9 * GIB, frame=1.0).misfit(HOW, 9, 1, 12 * GIB, "card")


def test_a_short_video_needs_its_own_frames_only():
    assert MEMORY.misfit(HOW, 10, 1, 18 * GIB, "card") is None


@pytest.fixture
def on_card(pipeline, files, tmp_path, monkeypatch):
    """Prepares a case as on a GPU with this many bytes."""

    def prepare(total):
        card = SimpleNamespace(total_memory=total, name="NVIDIA Small")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
        monkeypatch.setattr(pipeline, "device", torch.device("cuda"))
        return pipeline.prepare(VideoCase(files / "face.png", files / "voice.wav", tmp_path / "out.mp4", steps=1))

    return prepare


@pytest.mark.slow
def test_a_card_that_is_too_small_is_named_before_sampling(pipeline, on_card):
    ethd, others = pipeline.sampler.ethd, [pipeline._vaid]
    counted = memory_of(pipeline.exported.info, ethd, others)
    rough = memory_of(pipeline.exported.info, ethd, others, rough=True)
    assert counted.weights == rough.weights > 0
    assert counted.frame < rough.frame
    assert not [note for note in on_card(80 * GIB).notes if "GiB" in note]
    need = counted.weights + 8 * counted.frame
    with pytest.raises(
        GenerationError, match=r"^window=8: sampling needs about 2\.\d GiB, NVIDIA Small has 0\.0 GiB; use"
    ):
        on_card(int(0.9 * need))
    (note,) = (note for note in on_card(int(1.01 * need)).notes if "GiB" in note)  # the allowances alone do not fit
    assert note.startswith("window=8: sampling needs about")
