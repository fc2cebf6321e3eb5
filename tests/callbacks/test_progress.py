"""What the progress bar says of a training that ends by steps."""

from types import SimpleNamespace

import pytest

from callbacks.progress import ProgressBar


@pytest.mark.parametrize(("epoch", "said"), [(0, "Epoch 1/4"), (3, "Epoch 4/4")])
def test_epochs_are_counted_towards_the_last_step(epoch, said):
    bar = ProgressBar()
    bar._trainer = SimpleNamespace(max_steps=1800, num_training_batches=500)
    assert bar._get_train_description(epoch).strip() == said
