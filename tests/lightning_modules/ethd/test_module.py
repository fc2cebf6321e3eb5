"""ETHD's training step on batches of small shards: driving signals, randomness and loss."""

from dataclasses import replace

import pytest
import torch

from datamodules.clip_windows import BatchReader, Window
from datamodules.datamodule import ShardDataModule
from diffusion.parameterization import VelocityDenoiser
from lightning_modules.checkpoints import CHECKPOINT_INFO, CheckpointError
from lightning_modules.ethd.checkpoint import EthdInfo
from tests.helpers.ethd import FIELDS, smallest_ethd
from tests.helpers.refusals import refuses
from tests.helpers.shards import make_shards
from tests.helpers.steps import descend


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ShardDataModule:
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, frames=(30, 40, 50))
    module = ShardDataModule(root=str(folder), fields=FIELDS, window=8, batch_size=2, pad=False, workers=0)
    module.setup()
    return module


def batch_of(data: ShardDataModule, places: list[int], step: int = 0):
    clips = data.clips["train"]
    return BatchReader(data._readers, FIELDS).read([Window(clips[i], i, i, 8, 1) for i in places], 8, step)


def example_of(module, batch):
    seeds = module._seeds(batch)
    return module.example(batch, seeds, module._driving_expression(batch, seeds))


def test_an_example_does_not_depend_on_the_other_clips(data):
    module = smallest_ethd(data, lip_dropout=0.5, expression_dropout=0.5, reference_noise=0.3)
    together = example_of(module, batch_of(data, [0, 1]))
    for row in (0, 1):
        alone = example_of(module, batch_of(data, [row]))
        assert torch.equal(alone.noise[0], together.noise[row])
        assert torch.equal(alone.reference[0], together.reference[row])
        assert torch.equal(alone.signals.dropped[0], together.signals.dropped[row])
        for name in ("e_dri", "lip", "e_ref", "boxes"):
            torch.testing.assert_close(getattr(alone.signals, name)[0], getattr(together.signals, name)[row])


def test_randomness_depends_on_the_draw_and_not_on_the_global_generator(data):
    module, batch = smallest_ethd(data), batch_of(data, [0, 1])
    first = module.training_step(batch, 0)
    torch.manual_seed(99)
    assert torch.equal(module.training_step(batch, 0), first)
    batch["draw"] = batch["draw"] + 12
    assert not torch.equal(example_of(module, batch).noise, example_of(module, batch_of(data, [0, 1])).noise)


def test_a_random_share_of_clips_uses_vaids_expressions(data):
    batch = batch_of(data, list(range(12)))
    probability = {p: smallest_ethd(data, audio_expression_probability=p) for p in (0.0, 0.5, 1.0)}
    e_v, some, e_a = (example_of(module, batch).signals.e_dri for module in probability.values())
    module = probability[0.0]
    torch.testing.assert_close(e_v, module.vaid.expression_scale(batch["expression"]))
    assert not torch.isclose(e_v, e_a).any(-1).all(-1).any()
    # V-AID samples only the rows that need it, and products of another batch size round differently.
    rows = zip(some, e_v, e_a, strict=True)
    kinds = [torch.allclose(row, a) - torch.allclose(row, b, atol=1e-5) for row, a, b in rows]
    assert set(kinds) == {1, -1}  # each is one of the two, and both occur
    batch["draw"] = batch["draw"] + 100
    again = example_of(probability[0.5], batch).signals.e_dri
    assert [torch.equal(row, a) for row, a in zip(again, e_v, strict=True)] != [kind > 0 for kind in kinds]


def test_e_cond_is_of_the_frame_that_vaid_was_trained_with(data):
    module, batch = smallest_ethd(data, audio_expression_probability=1.0), batch_of(data, [3])
    of_clip = example_of(module, batch).signals
    module.vaid.config.condition_frame = "window"
    of_window = example_of(module, batch).signals
    scale = module.vaid.expression_scale
    torch.testing.assert_close(of_clip.e_cond, scale(batch["first_expression"]))
    torch.testing.assert_close(of_window.e_cond, scale(batch["expression"][:, 0]))
    assert not torch.allclose(of_clip.e_dri, of_window.e_dri)


def test_e_a_is_conditioned_on_the_first_frames_expression(data):
    module, batch = smallest_ethd(data, audio_expression_probability=1.0), batch_of(data, [3])
    e_a = example_of(module, batch).signals.e_dri
    batch["first_expression"] = batch["first_expression"] + 1
    assert not torch.allclose(example_of(module, batch).signals.e_dri, e_a)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["x0", "v", "min_snr"])
def test_the_loss_equals_the_denoisers_error(data, loss):
    """Eq. 11 against the sampler's denoiser; v and min-SNR weight the error by noise level."""
    module = smallest_ethd(data, loss=loss, snr_gamma=5.0)
    example, steps = example_of(module, batch_of(data, [0, 1])), torch.tensor([300, 800])
    value, errors = module.losses(example, steps)
    network = VelocityDenoiser(lambda x, t: module.ethd(x, t, example.reference, example.signals), module.schedule)
    x0 = network(module.schedule.add_noise(example.x0, example.noise, steps), steps)
    squared = (x0 - example.x0).square().flatten(1).mean(1)
    level = module.schedule.level(steps, squared)
    snr = level / (1 - level)
    weight = {"x0": 1.0, "v": snr + 1, "min_snr": (snr + 1).clamp(max=5.0)}[loss]
    torch.testing.assert_close(value, (weight * squared).mean())
    torch.testing.assert_close(errors["x0_mse"], squared)
    torch.testing.assert_close(errors["v_mse"], squared * (snr + 1))


def test_diffusion_steps_are_stratified_over_the_ranks(data):
    module = smallest_ethd(data)
    module.batch_size, batch = 4, batch_of(data, [0, 1], step=7)
    steps = []
    for draws in ([28, 30], [29, 31]):  # of two ranks
        steps += module._diffusion_steps({**batch, "draw": torch.tensor(draws)}).tolist()
    assert sorted(step // 250 for step in steps) == [0, 1, 2, 3]


@pytest.mark.parametrize("parts", [("lip",), ("e_dri",), ("lip", "e_dri")])
def test_a_dropped_condition_equals_an_absent_one(data, parts):
    shares = {"lip_dropout": float("lip" in parts), "expression_dropout": float("e_dri" in parts)}
    module = smallest_ethd(data, **shares)
    example = example_of(module, batch_of(data, [0, 1]))
    steps = torch.tensor([500, 500])
    dropped, _ = module.losses(example, steps)
    without = replace(example.signals, dropped=None, **dict.fromkeys(parts))
    absent, _ = module.losses(replace(example, signals=without), steps)
    kept, _ = module.losses(replace(example, signals=replace(example.signals, dropped=None)), steps)
    torch.testing.assert_close(dropped, absent)
    assert not torch.isclose(dropped, kept)


def test_lips_and_expression_are_dropped_independently_by_seed_and_draw(data):
    module, seeds = smallest_ethd(data, lip_dropout=0.3, expression_dropout=0.2), range(20000)
    dropped = module._dropped(list(seeds))
    lips, expression = dropped.double().unbind(1)
    assert lips.mean().item() == pytest.approx(0.3, abs=0.015)
    assert expression.mean().item() == pytest.approx(0.2, abs=0.015)
    assert (lips * expression).mean().item() == pytest.approx(0.06, abs=0.01)
    torch.manual_seed(99)  # another rank, another micro-batch or a resumed run: the same clips
    assert torch.equal(torch.cat([module._dropped([seed]) for seed in seeds[:50]]), dropped[:50])
    assert smallest_ethd(data)._dropped([1]) is None
    assert example_of(module.eval(), batch_of(data, [0, 1])).signals.dropped is None


def test_a_checkpoint_records_the_dropout(data):
    module = smallest_ethd(data, lip_dropout=0.3, expression_dropout=0.2)
    config = EthdInfo.read(module.info.plain()).config
    assert (config.lip_dropout, config.expression_dropout) == (0.3, 0.2)
    before = module.info.plain()  # of an earlier version: lips and expression were dropped together
    before["config"] |= {"condition_dropout": 0.1, "svd": None, "mask_source": "window"}
    del before["config"]["lip_dropout"], before["config"]["expression_dropout"]
    config = EthdInfo.read(before).config
    assert (config.lip_dropout, config.expression_dropout) == (0, 0)
    refuses(
        CheckpointError,
        "trained with model.condition_dropout=0.1, model.mask_source=window, which this version does not have",
        module.on_load_checkpoint,
        {CHECKPOINT_INFO: before},
    )


def test_reference_noise_is_added_only_in_training(data):
    module, batch = smallest_ethd(data, reference_noise=0.5), batch_of(data, [0, 1])
    noisy = example_of(module, batch).reference
    clean = example_of(module.eval(), batch).reference
    torch.testing.assert_close(clean, batch["reference_latent"].float())  # statistics of these shards are 0 and 1
    assert 0.3 < (noisy - clean).std() < 0.7


def test_boxes_are_those_of_the_reference(data):
    batch = batch_of(data, [0, 1])
    assert torch.equal(example_of(smallest_ethd(data), batch).signals.boxes, batch["reference_boxes"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"])
@pytest.mark.parametrize("share_weights", [True, False])
def test_every_parameter_of_every_variant_has_a_gradient(data, variant, share_weights):
    module = smallest_ethd(data, variant=variant, share_weights=share_weights)
    batch = batch_of(data, [0, 1])
    # The face fills the frame and the mouth is in a corner, so that the mask is not empty at any level.
    batch["reference_boxes"] = torch.tensor([[[2.0, 18.0, 10.0, 24.0], [2.0, 2.0, 30.0, 30.0]]]).repeat(2, 1, 1)
    module.training_step(batch, 0).backward()
    for name, parameter in module.ethd.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.slow
def test_vaid_is_not_a_submodule_and_does_not_change(data):
    module = smallest_ethd(data)
    before = {name: value.clone() for name, value in module.vaid.state_dict().items()}
    assert "expression_scale.mean" in before  # buffers are compared too
    optimizer = module.configure_optimizers()["optimizer"]
    module.train()
    for step in range(3):
        descend(optimizer, module.training_step(batch_of(data, [step, step + 1], step), 0))
    assert not any("di_cte" in name or "audio_to_lip" in name for name in module.state_dict())
    assert all(id(weight) not in {id(p) for p in module.parameters()} for weight in module.vaid.parameters())
    assert not module.vaid.training
    for name, value in module.vaid.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_info_survives_its_plain_form(data):
    info = smallest_ethd(data).info
    assert info.config.overlap == 2  # a fifth of 8
    assert EthdInfo.read(info.plain()) == info
