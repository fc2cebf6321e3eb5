"""Export of a trained ETHD: exact round trip, and errors for unsuitable runs and files."""

import json
import re
import shutil
import struct
import time
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from encoders.text.ngram import NgramEncoder
from encoders.weight_files import WrongWeights
from lightning_modules.checkpoints import CheckpointError
from lightning_modules.emotion.emotion_table import TABLE_FILE, TABLE_KIND
from lightning_modules.emotion.text_mapping import TEXT_FILE, TextEmotion, TextMapping
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.export import EXPORT, KIND, VERSION, export, load_export
from lightning_modules.ethd.guidance import GuidanceError
from lightning_modules.ethd.held_vaid import HELD
from lightning_modules.ethd.sampler import SamplingError
from lightning_modules.tensor_files import read_file, write_file
from lightning_modules.vaid.checkpoint import load_vaid
from runtime.hashed_tensors import read_header
from runtime.ownership import ForeignFileError
from tests.helpers.emotion import synthetic_table
from tests.helpers.ethd_run import build_encoders, write_ethd, write_vaid
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def encoders():
    return build_encoders("tiny")


@pytest.fixture
def run(encoders, tmp_path):
    return write_ethd(tmp_path / "ethd", write_vaid(tmp_path / "vaid", *encoders), *encoders)


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_export_and_load_are_bit_exact(run, tmp_path):
    assert export(run) == run / EXPORT
    exported = load_export(run)
    trained, info = load_ethd(run / "checkpoints" / "last.ckpt")
    assert exported.info == replace(info, vaid="last.ckpt")  # no folder of the machine that trained it
    assert equal(exported.ethd, trained)
    assert equal(exported.vaid, load_vaid(tmp_path / "vaid" / "checkpoints" / "last.ckpt"))
    assert not exported.ethd.training
    assert not any(weight.requires_grad for weight in exported.ethd.parameters())
    assert (exported.step, exported.table, exported.text) == (7, None, None)
    with safe_open(run / EXPORT, framework="pt") as stored:
        assert {str(stored.get_tensor(name).dtype) for name in stored.keys()} == {"torch.float32"}  # noqa: SIM118


@pytest.mark.slow
def test_ema_weights_are_preferred_over_trained_weights(encoders, run, tmp_path):
    averaged = load_export(export(run)).ethd
    plain = write_ethd(tmp_path / "plain", tmp_path / "vaid", *encoders, ema=False)
    assert equal(load_export(export(plain)).ethd, averaged)  # the run's trained weights differ from its EMA


def test_an_export_needs_no_other_file(run, tmp_path):
    export(run)
    (run / EXPORT).rename(tmp_path / "alone.safetensors")
    for file in tmp_path.rglob("*.ckpt"):
        file.unlink()
    assert load_export(tmp_path / "alone.safetensors").step == 7


def test_export_is_deterministic_and_accepts_a_checkpoint(run):
    first = export(run).read_bytes()
    assert export(run / "checkpoints" / "last.ckpt").read_bytes() == first


@pytest.fixture
def emotion(tmp_path):
    folder = tmp_path / "words"
    table, encoder = synthetic_table(1), NgramEncoder()
    mapping = TextMapping(encoder.width, table.latents.shape[-1], 8)
    table.save(folder / TABLE_FILE)
    TextEmotion(mapping, encoder, ["happy", "sad"], table.motion).save(folder / TEXT_FILE)
    return folder, table, encoder, mapping


@pytest.mark.slow
def test_an_export_includes_label_table_and_text_mapping(run, emotion):
    folder, table, encoder, mapping = emotion
    exported = load_export(export(run, emotion=folder))
    assert torch.equal(exported.table.lookup("happy", 3), table.lookup("happy", 3))
    assert exported.text_encoder == encoder.identity
    latent, _ = exported.text_emotion(encoder)("happy")
    assert torch.equal(latent, mapping.eval().latent(encoder(["happy"]))[0])
    before = (run / EXPORT).read_bytes()
    moved = folder.rename(folder.with_name("moved"))
    assert export(run).read_bytes() == before  # the run holds the files of the emotion run
    moved.rename(folder)
    (folder / TEXT_FILE).unlink()
    assert load_export(export(run, emotion=folder)).text is None


@pytest.mark.slow
def test_emotions_of_another_motion_encoder_are_rejected(run, emotion, tmp_path):
    folder = emotion[0]
    header, tensors = read_file(folder / TABLE_FILE, TABLE_KIND, 1, "")
    header["motion"]["name"] = "landmerks"
    write_file(folder / TABLE_FILE, TABLE_KIND, header, tensors)
    refuses(WrongWeights, "landmerks", export, run, emotion=folder)
    refuses(CheckpointError, "no such run", export, run, emotion=tmp_path / "nothing")


def test_export_requires_the_vaid_of_the_training(encoders, run, tmp_path):
    other = write_vaid(tmp_path / "other", *encoders, seed=3)
    refuses(CheckpointError, "is not the V-AID .* was trained with", export, run, vaid=other)
    (tmp_path / "vaid").rename(tmp_path / "moved")
    refuses(CheckpointError, r"vaid\.ckpt: no such file, .* once with vaid=RUN", export, run)
    assert load_export(export(run, vaid=tmp_path / "moved")).step == 7
    shutil.rmtree(tmp_path / "moved")  # the run now holds it
    assert load_export(export(run)).step == 7
    damaged = run / HELD
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    refuses(CheckpointError, r"vaid\.ckpt: is not the V-AID .* was trained with", export, run)


def test_a_vaid_that_went_on_is_found_among_the_checkpoints_of_its_run(encoders, run, tmp_path):
    checkpoints = tmp_path / "vaid" / "checkpoints"
    (checkpoints / "last.ckpt").rename(checkpoints / "step=1.ckpt")
    write_vaid(tmp_path / "further", *encoders, seed=3)
    shutil.copy(tmp_path / "further" / "checkpoints" / "last.ckpt", checkpoints / "step=2.ckpt")
    (checkpoints / "last.ckpt").symlink_to("step=2.ckpt")
    export(run, vaid=tmp_path / "vaid")
    assert (run / HELD).read_bytes() == (checkpoints / "step=1.ckpt").read_bytes()


def test_unsuitable_runs_are_not_exported(encoders, run, tmp_path):
    refuses(CheckpointError, r"nothing: no such run or checkpoint", export, tmp_path / "nothing")
    refuses(CheckpointError, "of stage vaid; expected one of stage ethd", export, tmp_path / "vaid")
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    refuses(CheckpointError, r"last\.ckpt: not a readable checkpoint", export, run)


def test_paths_that_are_no_export_are_rejected(run, tmp_path):
    command = f"was not exported yet; run: python train.py task=export run={run}"
    refuses(CheckpointError, "no such run", load_export, tmp_path / "nothing")
    refuses(CheckpointError, "is not a run directory", load_export, tmp_path)
    refuses(CheckpointError, re.escape(command), load_export, run)
    refuses(CheckpointError, "is a run of stage vaid", load_export, tmp_path / "vaid")
    refuses(CheckpointError, "is not an export; if it is a checkpoint", load_export, run / "checkpoints" / "last.ckpt")


def test_damaged_files_and_other_kinds_are_rejected(run):
    file = export(run)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refuses(WrongWeights, "cannot be read as safetensors", load_export, run)
    file.write_bytes(content.replace(KIND.encode(), KIND.upper().encode()))
    refuses(WrongWeights, f"is not an {KIND}", load_export, run)
    assert b'\\"version\\": 1}' in content
    file.write_bytes(content.replace(b'\\"version\\": 1}', b'\\"version\\": 9}'))
    refuses(WrongWeights, "newer than this program", load_export, run)


def test_a_failed_write_keeps_the_previous_export(run, monkeypatch):
    before = export(run).read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        export(run)
    assert [file.name for file in (run / "export").iterdir()] == ["ethd.safetensors"]
    assert (run / EXPORT).read_bytes() == before


SILLY = {  # key of the header -> value
    "card.config.unet.layers": [10**8, -1, 0, "2", None, float("nan")],
    "card.config.unet.channels": [[10**9, 32], [], [0, 32], "32", [32.5, 32]],
    "card.config.unet.heads": [[0, 0], [3, 3], [10**9, 1]],
    "card.config.window": [10**12, 0, -8, "x", 1.5],
    "card.config.ema": [float("inf"), "x"],
    "card.frame_side": [10**6, 0, -64, "../x", 64.5, True, None],
    "card.dimensions.latent_channels": [10**9, -1, "4"],
    "card.dimensions.audio_width": [0, 2**63, []],
    "card.latents.mean": [[float("nan")] * 48, [], [0.0], "x", [10**400] * 48],
    "card.latents.std": [[0.0] * 48, [-1.0] * 48, [float("inf")] * 48],
    "step": ["x", -1, 1.5, None, 2**70],
    "trained_windows": [{"x": 1}, {"8": -1}, [], 7],
    "vaid.lip.depth": [10**8, "x", -1],
    "vaid.expression.width": [10**9, 0],
}


def test_one_silly_number_of_a_header_is_refused_at_once(run):
    """Also where the file's own hashes fit it, as in an export that somebody made to harm."""
    path = export(run)
    header, tensors = read_file(path, KIND, 1, "")
    accepted, messages = [], []
    for key, values in SILLY.items():
        for value in values:
            changed = json.loads(json.dumps(header))
            *parents, last = key.split(".")
            place = changed
            for parent in parents:
                place = place[parent]
            assert last in place, key
            place[last] = value
            write_file(path, KIND, changed, tensors)
            began = time.process_time()
            try:
                load_export(path)
            except (WrongWeights, CheckpointError) as error:
                messages.append(str(error))
            else:
                accepted.append((key, value))
            assert time.process_time() - began < 5, (key, value)
    assert not accepted
    assert all("\n" not in message and path.name in message and len(message) < 600 for message in messages), messages


def test_a_half_export_is_one_small_file_whose_values_are_those_of_float16(run, emotion, tmp_path):
    whole = load_export(export(run, emotion=emotion[0]))
    record = {"commit": "abc", "scores": {"lips_neutral": 0.9}}
    file = export(run, output=tmp_path / "new" / "small.safetensors", half=True, record=record)
    small = load_export(file)
    assert {str(tensor.dtype) for tensor in load_file(file).values()} == {"torch.float16"}
    assert file.stat().st_size < 0.6 * (run / EXPORT).stat().st_size
    for found, wanted in ((small.ethd, whole.ethd), (small.vaid, whole.vaid)):
        for name, weight in wanted.state_dict().items():
            assert torch.equal(found.state_dict()[name], weight.half().float()), name
    assert torch.equal(small.table.latents, whole.table.latents.half().float())
    assert small.text_encoder == whole.text_encoder
    assert small.record == record
    assert whole.record == {}
    assert str(tmp_path) not in json.dumps(read_header(file, KIND))


def test_an_export_samples_as_told_and_else_as_in_training(run, tmp_path):
    sampling = {"sampling_steps": 3, "lip_guidance": 1.0}
    file = export(run, output=tmp_path / "new.safetensors", sampling=sampling)
    trained, found = load_ethd(run)[1].config, load_export(file).info.config
    assert found == replace(trained, **sampling)
    refuses(
        SamplingError, "steps=2000: expected at most 50, as in training", export, run, sampling={"sampling_steps": 2000}
    )
    refuses(GuidanceError, "model.lip_dropout=0", export, run, sampling={"lip_guidance": 2.0})


def test_half_is_refused_where_a_weight_is_too_large_for_it(run, tmp_path):
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=False)
    name, weight = next(iter(checkpoint["ema"]["weights"].items()))
    weight.view(-1)[0] = 1e6
    torch.save(checkpoint, last)
    refuses(
        CheckpointError,
        f"{name} has values above 65504, too large for float16; leave out half=true",
        export,
        run,
        half=True,
    )
    assert export(run).exists()


def test_a_file_of_others_is_not_replaced(run, tmp_path):
    file = tmp_path / "mine.safetensors"
    save_file({"w": torch.zeros(1)}, file)
    before = file.read_bytes()
    refuses(ForeignFileError, "mine.safetensors was not written by this program", export, run, output=file)
    file.write_text("notes")
    refuses(ForeignFileError, "mine.safetensors was not written by this program", export, run, output=file)
    assert file.read_text() == "notes"
    file.write_bytes(before)
    file.unlink()
    first = export(run, output=file, half=True).read_bytes()
    assert export(run, output=file, half=True).read_bytes() == first


def test_a_hostile_small_file_is_one_line(run, tmp_path):
    file = export(run, output=tmp_path / "small.safetensors", half=True)
    content, (header, tensors) = file.read_bytes(), read_file(file, KIND, VERSION, "")
    size = struct.unpack("<Q", content[:8])[0]
    name = next(name for name in sorted(tensors) if name.startswith("ethd."))

    def changed(**values) -> bytes:
        write_file(tmp_path / "changed.safetensors", KIND, {**header, **values.get("header", {})},
                   {**tensors, **values.get("tensors", {})})  # fmt: skip
        return (tmp_path / "changed.safetensors").read_bytes()

    left = {key: tensor for key, tensor in tensors.items() if key != name}
    write_file(tmp_path / "left.safetensors", KIND, header, left)
    save_file(tensors, tmp_path / "bare.safetensors", metadata={"format": "pt"})
    cases = {
        "half of it": content[: len(content) // 2],
        "only its header": content[: 8 + size],
        "empty": b"",
        "header of an exabyte": struct.pack("<Q", 1 << 60) + content[8:],
        "header that is no JSON": content[:8] + b"x" * size + content[8 + size :],
        "other metadata": (tmp_path / "bare.safetensors").read_bytes(),
        "missing tensor": (tmp_path / "left.safetensors").read_bytes(),
        "wrong shape": changed(tensors={name: torch.zeros(1, dtype=torch.float16)}),
        "whole numbers": changed(tensors={name: torch.zeros(tensors[name].shape, dtype=torch.int8)}),
        "further tensor": changed(tensors={"ethd.more": torch.zeros(1, dtype=torch.float16)}),
        "no parts": changed(header={"parts": 7}),
        "endless network": changed(header={"card": {**header["card"], "frame_side": 1 << 40}}),
        "no steps": changed(header={"step": "many"}),
    }
    for what, bytes_ in cases.items():
        file.write_bytes(bytes_)
        with pytest.raises(WrongWeights) as error:
            load_export(file)
        assert len(str(error.value).splitlines()) == 1, what
        assert "small.safetensors" in str(error.value), what
    file.write_bytes(changed(header={"record": ["odd"]}))
    assert load_export(file).record == {}
