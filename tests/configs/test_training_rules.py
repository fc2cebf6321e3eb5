"""Presets fit the experiments; combinations of devices, strategies and precisions that cannot work are refused."""

import pytest

from configs.errors import ConfigError
from configs.rules import check
from tests.helpers import ROOT
from tests.helpers.train_config import train_config

ETHD = ("experiment=ethd/paper", "data.root=a", "vaid=b")
VAID = ("experiment=vaid/paper", "data.root=a")


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "configs/trainer").glob("*.yaml")))
def test_every_preset_fits_the_papers_experiments_and_states_its_purpose(preset):
    config = train_config(*ETHD, f"trainer={preset}")
    check(config)
    if preset in ("deepspeed_autocast", "auto", "cpu"):
        assert config.trainer.precision == "32-true"
    if preset in ("cpu", "gpu", "ddp", "deepspeed_autocast", "auto"):
        check(train_config(*VAID, f"trainer={preset}"))
    assert (ROOT / "configs/trainer" / f"{preset}.yaml").read_text().startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("trainer.deepspeed.stage=3",), r"trainer\.deepspeed\.stage=3: ZeRO stage 3 splits the weights.*offload"),
        (("trainer.strategy=deepspeed_stage_3",), "empty weights in the backward pass"),
        (("trainer=deepspeed", "trainer.accelerator=cpu"), "runs on GPUs only; set trainer.accelerator=gpu"),
        (("trainer=deepspeed", "trainer.precision=bf16-true"), "the optimizer would have no float32 weights"),
        (("trainer=deepspeed_autocast", "trainer.precision=bf16-mixed"), "goes with trainer.precision=32-true"),
        (("trainer=ddp", "trainer.deepspeed.autocast=true"), "choose trainer=deepspeed_autocast"),
        (("trainer=ddp", "trainer.deepspeed.offload_optimizer=true"), "choose trainer=deepspeed_offload"),
        (("trainer.devices=many",), r"trainer\.devices=many: expected the number of processes per machine, or auto"),
        (("trainer=ddp", "trainer.devices='2'"), r"2 ranks .* cannot share it equally: run on 1 ranks, or .*size=2"),
        (("trainer=ddp", "trainer.devices='4'", "trainer.nodes=2", "data.batch_size=12"), "1, 2, 3, 4, 6, 12 ranks"),
        (("trainer=cpu", "trainer.devices='1,0'"), "trainer.devices=1,0: names GPUs; trainer.accelerator=cpu needs"),
        (("trainer.devices='0'",), r"trainer\.devices=0: expected at least 1"),
    ],
)
def test_incompatible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check(train_config(*ETHD, *changes))


@pytest.mark.parametrize("changes", [("trainer=deepspeed",), ("trainer=ddp", "trainer.precision=bf16-true")])
def test_v_aid_keeps_float32_weights(changes):
    with pytest.raises(ConfigError, match=r"stage vaid needs float32 weights .*CLUB.*deepspeed_autocast"):
        check(train_config(*VAID, *changes))
