"""V-AID's training step on batches of small shards, and loading its checkpoint for stage two."""

import pytest
import torch
from torch import nn

from configs.models import ClubConfig
from datamodules.clip_windows import BatchReader, Window
from datamodules.datamodule import ShardDataModule
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.module import VAIDModule
from lightning_modules.vaid.statistics import motion_statistics
from tests.helpers.ethd import smallest_vaid_config
from tests.helpers.refusals import refuses
from tests.helpers.shards import ENCODERS, TINY, make_shards
from tests.helpers.steps import descend

FIELDS = ["audio", "lip", "expression", "portraits"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ShardDataModule:
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, frames=(30, 40, 50))
    module = ShardDataModule(root=str(folder), fields=FIELDS, window=40, batch_size=4, workers=0)
    module.setup()
    return module


def make(data: ShardDataModule, club: float = 0.0, **changes) -> VAIDModule:
    torch.manual_seed(0)
    config = smallest_vaid_config(club=ClubConfig(weight=club, warmup=0), window=40, overlap=8, **changes)
    module = VAIDModule(config, data.dimensions, data.index.encoders)
    module.vaid.set_statistics(motion_statistics((clip.key, lip, expr) for clip, lip, expr in data.motions()))
    return module


def batch_of(data: ShardDataModule, places: list[int], length: int = 50):
    clips = data.clips["train"]
    windows = [Window(clips[i], i, 0, min(length, clips[i].entry.frames), 0) for i in places]
    return BatchReader(data._readers, FIELDS).read(windows, length, 0)


@pytest.mark.parametrize("changes", [{}, {"velocity": 0.5, "condition_dropout": 0.5, "regression_reduction": "sum"}])
def test_batch_loss_is_the_mean_over_clips_without_club(data, changes):
    module = make(data, **changes)
    together = module.losses(batch_of(data, [0, 1])).loss  # of 30 and 40 frames, padded to 50
    singles = [module.losses(batch_of(data, [i], data.clips["train"][i].entry.frames)).loss for i in (0, 1)]
    torch.testing.assert_close(together, torch.stack(singles).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", ["alpha_bar", "none"])
def test_padding_affects_no_term_of_the_loss(data, weighting):
    module = make(data, club=1.0)
    module.config.club.weighting = weighting
    short, long = (module.losses(batch_of(data, [0, 3], length)) for length in (30, 50))
    torch.testing.assert_close(short.loss, long.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.parts, long.parts, rtol=1e-4, atol=1e-5)


def test_noise_depends_on_the_draw_and_not_on_the_global_generator(data):
    module, batch = make(data), batch_of(data, [0, 1])
    first = module.losses(batch).loss
    torch.manual_seed(99)
    assert torch.equal(module.losses(batch).loss, first)
    batch["draw"] = batch["draw"] + 12
    assert not torch.equal(module.losses(batch).loss, first)


def test_bfloat16_autocast_gives_finite_gradients(data):
    module, batch = make(data, club=1.0, condition_dropout=0.5, velocity=0.1), batch_of(data, [0, 1])
    full = module.losses(batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        half = module.losses(batch).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)
    half.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def test_club_trains_only_q_during_warmup(data):
    module, batch = make(data, club=1.0), batch_of(data, [0, 1])

    def gradients() -> dict[str, torch.Tensor]:
        module.zero_grad()
        module.losses(batch).loss.backward()
        return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}

    with_club = gradients()
    module.config.club.warmup = 10
    warming = gradients()
    module.q = None
    without, head = gradients(), "vaid.audio_to_lip.head.1.weight"
    torch.testing.assert_close(warming[head], without[head])
    assert not torch.allclose(with_club[head], without[head])
    assert all(torch.equal(with_club[name], warming[name]) for name in warming if name.startswith("q."))


def checkpoint_of(module: VAIDModule, path) -> str:
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


def test_load_vaid_rebuilds_frozen_networks_from_a_checkpoint(data, tmp_path):
    module, batch = make(data, club=1.0), batch_of(data, [0])
    vaid = load_vaid(checkpoint_of(module, tmp_path / "vaid.ckpt"), data.index.encoders)
    assert not vaid.training
    assert not any(parameter.requires_grad for parameter in vaid.parameters())
    module.eval()
    for network, field in (("lip", "audio"), ("expression_scale", "expression")):
        again, before = (getattr(owner, network)(batch[field]) for owner in (vaid, module.vaid))
        torch.testing.assert_close(again, before)


def test_an_optimizer_of_stage_two_does_not_change_vaid(data, tmp_path):
    vaid = load_vaid(checkpoint_of(make(data), tmp_path / "vaid.ckpt"))
    before = {name: value.clone() for name, value in vaid.state_dict().items()}
    renderer = nn.Linear(TINY.lip_width + TINY.expression_width, 3)
    optimizer = torch.optim.AdamW(
        [*renderer.parameters(), *vaid.parameters()], 1.0
    )  # although the optimizer receives its parameters
    for place in (0, 1):
        batch = batch_of(data, [place], 30)
        e_a = vaid.sample_expression(batch["audio"], batch["reference_portrait"], batch["first_expression"], [place])
        descend(optimizer, renderer(torch.cat([vaid.lip(batch["audio"]), e_a], dim=-1)).square().mean())
    assert all(torch.equal(value, before[name]) for name, value in vaid.state_dict().items())


def test_unsuitable_checkpoints_are_rejected(data, tmp_path):
    module = make(data)
    path = checkpoint_of(module, tmp_path / "vaid.ckpt")
    others = {**ENCODERS, "motion": Identity("pdfgc")}
    with pytest.raises(CheckpointError, match=r"vaid\.ckpt: motion: the checkpoint was trained on .*landmarks.*pdfgc"):
        load_vaid(path, others)
    other = torch.load(path, weights_only=True)
    other[CHECKPOINT_INFO]["stage"] = "ethd"
    torch.save(other, path)
    refuses(CheckpointError, r"vaid\.ckpt: is a checkpoint of stage ethd; expected one of stage vaid", load_vaid, path)
    refuses(CheckpointError, "is a checkpoint of stage ethd", module.on_load_checkpoint, other)
    torch.save({"weights": 1}, path)
    refuses(CheckpointError, "was not written by train.py", load_vaid, path)
    (tmp_path / "vaid.ckpt").write_bytes(b"half a file")
    refuses(CheckpointError, r"vaid\.ckpt: not a readable checkpoint", load_vaid, path)
    refuses(CheckpointError, "no such checkpoint", load_vaid, tmp_path / "none.ckpt")
