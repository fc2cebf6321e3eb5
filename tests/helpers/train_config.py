"""train.py's configuration composed as the command line composes it."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from configs import store
from configs.command_line import CONFIG_FOLDER, to_typed
from configs.training import TrainConfig


def train_config(*overrides: str) -> TrainConfig:
    """The typed configuration of ``train.py`` with these overrides."""
    store.register()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return to_typed(compose("train", list(overrides)), TrainConfig)


# A V-AID that trains in no time.
SMALLEST = (
    "model.lip={width:16,depth:1,latents:2,head_width:8}",
    "model.expression={width:16,depth:1,head_width:8,identity_widths:[8],identity_size:16}",
    "model.sampling_steps=2",
    "model.club.warmup=2",
    "model.lr_decay=none",
    "data.name=folder",
    "data.window=32",
    "data.batch_size=4",
    "data.steps_per_epoch=4",
    "trainer.validate_every=3",
    "trainer.validation_clips=2",
    "trainer.log_every=1",
    "trainer.progress_bar=false",
)
