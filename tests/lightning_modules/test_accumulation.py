"""Gradients and losses of a batch are the same on 1, 8 and 64 ranks. The ranks are simulated one after the other."""

from collections.abc import Iterable

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from configs.models import ClubConfig
from datamodules.clip_windows import BatchReader, micro_batches
from datamodules.datamodule import ShardDataModule
from datamodules.loader import StreamDataset
from lightning_modules.accumulation import AccumulatingModule
from lightning_modules.vaid.module import VAIDModule
from lightning_modules.vaid.statistics import motion_statistics
from tests.helpers.ethd import FIELDS, awake, smallest_ethd, smallest_vaid_config
from tests.helpers.shards import make_shards

SIZE, WINDOW = 64, 12
VAID_FIELDS = ["audio", "lip", "expression", "portraits"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    make_shards(path, samples=20, frames=(8, 9, 10, 14), splits=("train",))
    return path


def data_of(folder, fields, **changes) -> ShardDataModule:
    settings = {"fields": fields, "window": WINDOW, "min_frames": 4, "workers": 0}
    data = ShardDataModule(root=str(folder), **settings, **changes)
    data.setup()
    return data


def batches_of(folder, fields, pad: bool, ranks: int, micro_batch: int, size: int = SIZE) -> list[list]:
    """The micro-batches of every rank in the first step."""
    settings = {"batch_size": size, "micro_batch": micro_batch, "pad": pad}
    data = data_of(folder, fields, **settings)
    whole = data.train_dataloader().dataset
    settings |= {"window": WINDOW, "seed": 0}
    reader = BatchReader(data._readers, fields)
    ranks_ = (StreamDataset(whole.clips, whole.order, reader, **settings, rank=r, ranks=ranks) for r in range(ranks))
    return [micro_batches(dataset[0]) for dataset in ranks_]


def take_part(module: VAIDModule, rank: int, ranks: int, rows: Tensor) -> None:
    """Makes a module one of several ranks; ``rows`` is what the ranks contribute to an all-gather."""
    kind = type(module)
    simulated = type(kind.__name__, (kind,), {"global_rank": rank, "_ranks": ranks})
    module.__class__ = simulated
    module.all_gather = lambda own: rows  # type: ignore[method-assign]


def back_propagate_all(self: AccumulatingModule, losses: Iterable[Tensor], count: int) -> Tensor:
    """As ``accumulate``, without a strategy; the last loss is back-propagated too."""
    for loss in losses:
        loss.backward()
    return loss


@pytest.fixture
def alone(monkeypatch):
    """Steps without a trainer."""
    monkeypatch.setattr(AccumulatingModule, "accumulate", back_propagate_all)


def gradient(module: LightningModule) -> Tensor:
    """All gradients as one vector, which are then set to zero."""
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    found = torch.cat([parameter.grad.flatten() for parameter in parameters])
    module.zero_grad()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, pytest.param(SIZE, marks=pytest.mark.nightly)])
def test_ethd(folder, alone, size):
    module = smallest_ethd(data_of(folder, FIELDS))
    module.batch_size = size
    found, lengths = {}, set()
    for ranks in (1, size // 8, size):
        gradients, losses = [], []
        for batches in batches_of(folder, FIELDS, False, ranks, 1, size):
            values: list[dict[str, Tensor]] = []
            module.accumulate((module._part_loss(batch, values) / len(batches) for batch in batches), len(batches))
            gradients.append(gradient(module))
            losses += [float(value["loss"]) for value in values]
            lengths |= {batch["latent"].shape[1] for batch in batches}
        found[ranks] = torch.stack(gradients).mean(0), sorted(losses)
    assert lengths == {8, 9, 10, WINDOW}
    for ranks in (size // 8, size):
        assert found[ranks][1] == found[1][1]  # of every clip
        torch.testing.assert_close(found[ranks][0], found[1][0], rtol=1e-4, atol=1e-6 * float(found[1][0].abs().max()))


def vaid_module(folder) -> VAIDModule:
    data = data_of(folder, VAID_FIELDS)
    torch.manual_seed(0)
    config = smallest_vaid_config(club=ClubConfig(weight=1.0, warmup=0), window=WINDOW, overlap=2)
    module = VAIDModule(config, data.dimensions, data.index.encoders)
    module.vaid.set_statistics(motion_statistics((clip.key, lip, expr) for clip, lip, expr in data.motions()))
    return awake(module)


def test_vaid_under_autocast(folder, alone):
    """Weights that were cast in the pass without gradients have gradients in the second."""
    module = vaid_module(folder)
    ((whole,),) = batches_of(folder, VAID_FIELDS, True, 1, SIZE)
    (batches,) = batches_of(folder, VAID_FIELDS, True, 1, SIZE // 2)
    with torch.autocast("cpu", torch.bfloat16):
        module.losses(whole).loss.backward()
    expected = gradient(module)
    with torch.autocast("cpu", torch.bfloat16):
        module._accumulated(batches)
    found = gradient(module)
    assert len(found) == len(expected)
    assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_vaid(folder, alone, micro_batch):
    module = vaid_module(folder)
    ((whole,),) = batches_of(folder, VAID_FIELDS, True, 1, SIZE)
    step = module.losses(whole)
    loss = float(step.loss.detach())
    step.loss.backward()
    expected = gradient(module)
    for ranks in (1, 8, SIZE // micro_batch):
        by_rank = batches_of(folder, VAID_FIELDS, True, ranks, micro_batch)
        with torch.no_grad():
            rows = [torch.cat([module._pairs(each, module._predict(each)) for each in part]) for part in by_rank]
        gradients, values = [], []
        for rank, batches in enumerate(by_rank):
            take_part(module, rank, ranks, torch.stack(rows))
            last = module._accumulated(batches)
            values.append({name: float(part.mean()) for name, part in last.parts.items()})
            gradients.append(gradient(module))
        found = torch.stack(gradients).mean(0)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-6 * float(expected.abs().max()))
        for name in ("club", "club_nll", "lip_nce", "expression_mse"):
            mean = sum(value[name] for value in values) / ranks
            assert mean == pytest.approx(float(step.parts[name].mean()), rel=1e-5, abs=1e-6), name
        assert sum(value["loss"] for value in values) / ranks == pytest.approx(loss, rel=1e-6)
