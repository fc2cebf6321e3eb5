"""The EMA of ETHD's weights in a training loop: its closed form, and its use in validation."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from callbacks.ema import WeightAverage
from datamodules.datamodule import ShardDataModule
from lightning_modules.checkpoints import EMA
from tests.helpers.ethd import FIELDS, smallest_ethd
from tests.helpers.shards import make_shards


class Record(Callback):
    """Records the weights after every step and during validation, and the numbers kept twice meanwhile."""

    def __init__(self):
        self.trained, self.validated, self.after, self.kept = [], [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained.append(copies(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(copies(pl_module))
        (average,) = (each for each in trainer.callbacks if isinstance(each, WeightAverage))
        self.kept.append(len(average._raw))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.after.append(copies(pl_module))


def copies(module):
    return {name: weight.detach().clone() for name, weight in module.ethd.named_parameters()}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ShardDataModule:
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, samples=6, frames=(30,), splits=("train", "val"))
    settings = {"window": 4, "batch_size": 2, "workers": 0, "steps_per_epoch": 3}
    return ShardDataModule(root=str(folder), fields=FIELDS, pad=False, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_only_validation_uses_the_average(data, precision):
    data.setup()
    module, average, record = smallest_ethd(data, lr=1e-2), WeightAverage(0.15), Record()
    start = copies(module.bfloat16() if precision == "bf16-true" else module)
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_steps=6, val_check_interval=3, limit_val_batches=1,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[average, record], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert len(record.validated) == 2
    assert set(record.kept) == {0 if precision == "32-true" else len(start)}  # float32 weights are only exchanged
    # The decay is (1 + n) / (10 + n), at most 0.15: 1/10, then 0.15 instead of 2/11.
    expected = {name: weight.float() for name, weight in start.items()}
    for n, weights in enumerate(record.trained):
        decay = min(0.15, (1 + n) / (10 + n))
        expected = {name: decay * s + (1 - decay) * weights[name].float() for name, s in expected.items()}
        if n == 2:
            halfway = expected
    for name, weight in average.weights.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, expected[name], msg=name)
        torch.testing.assert_close(record.validated[0][name].float(), halfway[name], atol=1e-6, rtol=1e-2, msg=name)
        assert torch.equal(record.after[3][name], record.trained[2][name]), name
    saved = {}
    average.on_save_checkpoint(trainer, module, saved)
    assert saved[EMA]["updates"] == 6
