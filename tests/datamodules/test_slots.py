"""Batches through shared blocks equal those read in this process, for kept batches and any block size."""

import gc
import time

import pytest
import torch

from datamodules.datamodule import ShardDataModule
from datamodules.slots import LoadTask, MemoryBlock, Place, SlotDataset, Slots, Tasks

FIELDS = ["latent", "audio", "lip", "expression", "boxes", "portraits"]


def loader(folder, workers, **changes):
    settings = {"fields": FIELDS, "window": 50, "pad": False, "batch_size": 2, "steps_per_epoch": 24}
    return ShardDataModule(root=str(folder), workers=workers, **{**settings, **changes}).train_dataloader()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_kept_batches_are_not_overwritten(folder, workers):
    """Uses many more steps than blocks, with pauses in which the loader processes prefetch."""
    train = loader(folder, workers)
    kept = []
    for batch in train:
        kept.append(batch)
        if len(kept) % 6 == 0:
            time.sleep(0.05)
    for step, batch in enumerate(kept):
        assert_equal(batch, train.dataset[step])
    train.close()


def test_tensors_that_do_not_fit_into_a_block_are_transferred_separately(folder):
    dataset = loader(folder, 0).dataset
    like = dataset[4]
    for growth in (0.0, 0.01, 0.5, 1.0):
        slots = Slots([like], growth, 2)
        for slot in (-1, 0, 1):
            parcel = SlotDataset(dataset, slots.blocks)[LoadTask(4, slot)]
            assert parcel.used <= slots.blocks.shape[1] * (slot >= 0)
            assert_equal(slots.unpack(parcel), like)


@pytest.mark.slow
def test_a_block_is_reused_once_no_view_of_it_exists(folder):
    dataset = loader(folder, 0).dataset
    slots = Slots([dataset[0]], 1.0, 2)
    tasks = iter(Tasks(0, slots))
    first, second, third = (next(tasks) for _ in range(3))
    assert (first, second, third) == (LoadTask(0, 0), LoadTask(1, 1), LoadTask(2, -1))
    batch = slots.unpack(SlotDataset(dataset, slots.blocks)[first])
    rows = batch["latent"][0, 3:5].float().numpy(), batch["audio"].numpy()[0]  # a copy and a view
    del batch
    gc.collect()
    assert next(tasks).slot == -1
    del rows
    gc.collect()
    assert next(tasks).slot == 0


def test_a_training_loop_always_has_a_free_block(folder):
    """Like Lightning, the loop holds a batch while it fetches the next."""
    train = loader(folder, 2)
    previous = None
    for batch in train:
        assert batch["latent"].untyped_storage().nbytes() > batch["latent"].nbytes, "not transferred in a block"
        previous = batch
    assert previous is not None
    train.close()


def test_tensors_of_a_block_do_not_overlap():
    block = MemoryBlock(torch.zeros(4096, dtype=torch.uint8))
    shapes = [((3, 5), torch.float16), ((7,), torch.int64), ((1,), torch.uint8), ((2, 2), torch.float32)]
    tensors = [block.allocate(*shape) for shape in shapes]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number + 1)
    for number, tensor in enumerate(tensors):
        assert (tensor == number + 1).all()


def test_blocks_are_large_enough_for_the_longest_batch(folder):
    """The block size is derived from the first batch, which may be shorter than later ones."""
    train = loader(folder, 1, batch_size=1)
    lengths = set()
    for batch in train:
        lengths.add(batch["lip"].shape[1])
        items = SlotDataset(train.dataset, train._slots.blocks.clone())[LoadTask(batch["step"], 0)].items[0]
        assert isinstance(items["latent"], Place)
        assert isinstance(items["reference_portrait"], Place)
    assert lengths == {30, 45, 50}
    train.close()
