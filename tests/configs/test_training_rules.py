"""Presets fit the experiments; combinations of devices, strategies and precisions that cannot work are refused."""

import pytest

from configs.errors import ConfigError
from configs.rules import check
from tests.helpers import ROOT
from tests.helpers.train_config import train_config

ETHD = ("experiment=ethd/paper", "data=hdtf", "data.root=a", "vaid=b")
VAID = ("experiment=vaid/paper", "data=mead", "data.root=a")


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
        (("trainer.precision=bf16-true",), "the optimizer would have bfloat16 weights alone, .* use bf16-mixed"),
        (("trainer=deepspeed_autocast", "trainer.precision=bf16-mixed"), "goes with trainer.precision=32-true"),
        (("trainer=ddp", "trainer.deepspeed.autocast=true"), "choose trainer=deepspeed_autocast"),
        (("trainer=ddp", "trainer.deepspeed.offload_optimizer=true"), "choose trainer=deepspeed_offload"),
        (("trainer.devices=many",), r"trainer\.devices=many: expected the number of processes per machine, or auto"),
        (("trainer=ddp", "trainer.devices='3'"), r"3 ranks .* cannot share it equally: run on 1, 2, 4, 8 ranks, .*=9"),
        (("trainer=ddp", "trainer.devices='4'", "trainer.nodes=2", "data.batch_size=12"), "1, 2, 3, 4, 6, 12 ranks"),
        (("trainer=cpu", "trainer.devices='1,0'"), "trainer.devices=1,0: names GPUs; trainer.accelerator=cpu needs"),
        (
            ("data.batch_size=6", "data.micro_batch=4"),
            "data.micro_batch=4: does not divide data.batch_size=6; .* 1, 2, 3",
        ),
        (
            ("trainer=ddp", "trainer.devices='8'", "data.batch_size=8", "data.micro_batch=2"),
            "in 4 micro-batches of data.micro_batch=2, and 8 ranks .* run on 1, 2, 4 ranks, or set data.batch_size=16",
        ),
        (("trainer.devices='0'",), r"trainer\.devices=0: expected at least 1"),
        (
            ("model.lip_dropout=0.1", "model.variant=wo_lip"),
            r"model\.lip_dropout=0\.1 model\.lip_guidance=1: model\.variant=wo_lip has no such condition; set "
            r"model\.lip_dropout=0 model\.lip_guidance=1",
        ),
        (("model.expression_guidance=2", "model.variant=wo_exp"), r"set model\.expression_dropout=0 model\.expr"),
        (("model.expression_dropout=0.1", "model.variant=wo_exp"), r"variant=wo_exp has no such condition"),
        (("model.lip_dropout=0.1", "model.variant=no_decouple"), r"variant=no_decouple has no such condition"),
        (("model.lip_guidance=2",), r"model\.lip_guidance=2.*: needs model\.lip_dropout above 0, e\.g\. 0\.1"),
        (("model.expression_guidance=2",), r"model\.expression_guidance=2.*: needs model\.expression_dropout above 0"),
    ],
)
def test_incompatible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check(train_config(*ETHD, *changes))


def test_v_aid_pairs_frames_of_windows_of_one_length():
    with pytest.raises(ConfigError, match="pairs the frames of all clips, .* set data.pad=true"):
        check(train_config(*VAID, "data.pad=false", "data.micro_batch=1"))
    check(train_config(*VAID, "data.pad=false", "data.micro_batch=1", "model.club.weight=0"))


def test_v_aid_keeps_float32_weights():
    with pytest.raises(ConfigError, match="trainer.compile=true: stage=vaid is not compiled; it is for stage=ethd"):
        check(train_config(*VAID, "trainer.compile=true"))
    with pytest.raises(ConfigError, match=r"stage vaid needs float32 weights .*CLUB.*deepspeed_autocast"):
        check(train_config(*VAID, "trainer=deepspeed"))
