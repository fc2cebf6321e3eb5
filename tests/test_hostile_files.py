"""Files of strangers at every door: one line each, no code run, nothing read or written elsewhere, little memory."""

from __future__ import annotations

import resource
import warnings
from dataclasses import asdict

import pytest

from benchmark.case_list import read_cases
from benchmark.figures import drift_figure
from benchmark.inputs.phonemes import _indices
from benchmark.not_run import _record
from benchmark.runner import read_record as read_clip_record
from benchmark.system import load_system
from benchmark.tables.reading import read_results
from benchmark.user_study.answers import Excluded, Key, read_answers, read_key
from configs.generation import GenerateConfig
from configs.training import TrainConfig
from datamodules.schema import Index
from encoders.landmarks.sidecar import _read as read_landmarks
from encoders.weight_files import load_tensors
from generation.batch import cases_of
from lightning_modules.checkpoint_files import check_whole
from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.emotion.emotion_table import EmotionTable
from lightning_modules.ethd.export import _stage_of, load_export
from metrics.networks.metric_weights import read_tensors
from metrics.networks.proxy import HEADER, VERSION, ProxyInfo, load_proxy, new_proxy
from preparation.merge import read_record as read_shard_record
from preparation.plan import read_plan
from runtime.errors import UserError
from runtime.hashed_tensors import save_hashed
from runtime.tensors import load_saved, load_torchscript
from tests.helpers.hostile_files import STOLEN, csv_texts, json_texts, tensors, yaml_texts
from tools.doctor.places import findings_of
from training.resume import check_same_config
from training.run_health import run_findings
from training.wandb_runs import scored_run
from training.zero_parts import load_part

MEMORY = 1 << 30  # bytes that all inputs of a test may add to the process's peak

COLUMNS = {
    "benchmark": "clip,portrait,audio",
    "batch": "portrait,speech,output,seed,steps,emotion.strength,guidance.lips,lips.strength,emotion.text",
    "landmarks": ",".join(["timestamp", *(f"{axis}_{n}" for axis in "xy" for n in range(68))]),
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A path that nothing may create; memory is watched, and a secret is in the environment."""
    monkeypatch.setenv("SECRET", STOLEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


def one_line(call, *arguments) -> str | None:
    """The message of a refusal, which must be one line of printable length; None if the call returned."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*arguments)
    except (UserError, Excluded, FileNotFoundError) as error:
        text = str(error)
    except ValueError as error:  # of the metrics, which evaluate.py turns into a reason
        if type(error) is not ValueError:
            raise
        text = str(error)
    else:
        return None
    assert STOLEN not in text
    assert text.strip()
    assert len(text) < 3000
    return text


TENSOR_DOORS = {
    "load_saved": load_saved,
    "check_whole": check_whole,
    "read_checkpoint": lambda path: read_checkpoint(path, "vaid"),
    "read_tensors": lambda path: read_tensors(path, "weights.pt"),
    "load_tensors": load_tensors,
    "torchscript": lambda path: load_torchscript(path, published=False),
    "export": load_export,
    "proxy": lambda path: load_proxy(path, "sync"),
    "emotion": EmotionTable.load,
    "deepspeed": load_part,
    "doctor": lambda path: list(findings_of(path, lambda name: None)[1]),
}


@pytest.mark.parametrize("door", TENSOR_DOORS)
def test_tensors_and_archives(tmp_path, canary, door):
    if door == "deepspeed":
        pytest.importorskip("deepspeed")
    paths = list(tensors(tmp_path, canary))
    assert len(paths) >= 35
    for path in paths:
        message = one_line(TENSOR_DOORS[door], path)
        if door in ("read_checkpoint", "export", "proxy", "emotion"):  # each needs more than tensors
            assert message, path
            assert path.name in message


@pytest.mark.parametrize("width", [10**9, 0, -1, "x", None, [], float("nan"), 2**70])
def test_one_silly_number_of_a_proxy_network_is_refused(tmp_path, width):
    header = {"version": VERSION, **asdict(ProxyInfo("image", {"width": 8}, "folder", 1, 1, 1, 0))}
    tensors_ = new_proxy("image", width=8).state_dict()
    for change in ({"options": {"width": width}}, {"version": width}):
        if change == {"version": 0}:  # of no file of ours, but readable
            continue
        save_hashed(tmp_path / "proxy.safetensors", tensors_, HEADER, {**header, **change})
        with pytest.raises(ValueError, match="proxy.safetensors") as error:
            load_proxy(tmp_path / "proxy.safetensors", "image")
        assert "\n" not in str(error.value)


JSON_DOORS = {
    "results": (lambda path: read_results(path.parent), "a.json", "emotivetalk.evaluation/1"),
    "user study": (read_key, "key.json", "emotivetalk.user_study_key/1"),
    "answers": (lambda path: read_answers(path, Key("s", {}, ((),), 0)), "a.json", "emotivetalk.user_study_answers/1"),
    "drift": (drift_figure._read, "a.json", "emotivetalk.evaluation/1"),
    "not run": (_record, "a.json", "emotivetalk.system_clip/1"),
    "clip": (read_clip_record, "a.json", "emotivetalk.system_clip/1"),
    "phonemes": (lambda path: _indices(path.read_text(errors="replace"), path), "a.json", "x"),
    "plan": (lambda path: read_plan(path.parent.parent), "parts/plan.json", "1"),
    "shard": (lambda path: read_shard_record(path.parent.parent, "x.tar"), "parts/x.json", "1"),
    "index": (lambda path: Index.read(path.parent), "index.json", "1"),
    "doctor": (lambda path: list(findings_of(path.parent, lambda name: None)[1]), "index.json", "1"),
}


@pytest.mark.parametrize("door", JSON_DOORS)
def test_json(tmp_path, canary, door):
    call, name, schema = JSON_DOORS[door]
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    texts = [*json_texts(schema), *(text.replace(b'"1"', b"1") for text in json_texts("1"))]
    assert len(set(texts)) >= 27
    for text in dict.fromkeys(texts):
        path.write_bytes(text)
        one_line(call, path)


CSV_DOORS = {
    "benchmark": read_cases,
    "batch": lambda path: cases_of(GenerateConfig(batch=str(path), ethd="x", output=str(path.parent / "out"))),
    "landmarks": read_landmarks,
}


@pytest.mark.parametrize("door", CSV_DOORS)
def test_csv(tmp_path, canary, door):
    texts = list(csv_texts(COLUMNS[door]))
    assert len(texts) >= 19
    for text in texts:
        (tmp_path / "a.csv").write_bytes(text)
        one_line(CSV_DOORS[door], tmp_path / "a.csv")
    assert not (tmp_path / "out").exists()


YAML_DOORS = {
    "system": lambda path: load_system(str(path)),
    "resume": lambda path: check_same_config(TrainConfig(), path),
    "stage": lambda path: _stage_of(path.parent),
    "scores": lambda path: scored_run(path.parent),
    "run": lambda path: list(run_findings(path.parent, deep=False)),
}


@pytest.mark.parametrize("door", YAML_DOORS)
def test_yaml(tmp_path, canary, door):
    texts = list(yaml_texts(canary))
    assert len(texts) >= 19
    for text in texts:
        (tmp_path / "config.yaml").write_bytes(text)
        one_line(YAML_DOORS[door], tmp_path / "config.yaml")


def test_the_corpus_has_two_hundred_inputs(tmp_path, canary):
    """With those of media (132) and of the index, shards and downloads, which their own tests hand over."""
    found = [len(list(tensors(tmp_path, canary))), len(set(json_texts("1"))), len(list(yaml_texts(canary)))]
    found += [len(set(csv_texts(columns))) for columns in COLUMNS.values()]
    assert sum(found) >= 130, found
