"""Several processes over gloo give bit-identical results to one process, also with broken videos."""

import json
import multiprocessing
import os

import pytest

from evaluation.ranks import Ranks, _launched
from tests.helpers.synthetic_videos import evaluate_config, proxy_settings, untrained, write_speakers
from tests.helpers.warm import free_port

SLURM_STEP = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODELIST": "node[7-8]",
    "SLURM_JOB_ID": "123456", "SLURM_NTASKS": "8",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("ranks")
    write_speakers(root / "real", 5)
    write_speakers(root / "made", 5, gain=0.8)
    (root / "made" / "clip1.mp4").write_bytes(b"no video")
    (root / "made" / "clip3.csv").unlink()
    return root


def settings(folder, output, drift=None):
    keys = {"metrics": ["fid", "fvd", "efid", "sync"], "bootstrap": 5, "cache": str(output / "cache"), "drift": drift}
    keys |= proxy_settings(untrained(folder))
    return evaluate_config(folder / "made", folder / "real", output / "results.json", **keys)


def work(config, environment):
    os.environ.update(environment)
    import torch

    from evaluation.evaluate_folders import evaluate_folders

    torch.set_num_threads(1)
    raise SystemExit(evaluate_folders(config))


def on_ranks(config, size):
    """Runs ``size`` processes with torchrun's environment and returns their exit statuses."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["evaluation.evaluate_folders"])
    common = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "TORCHELASTIC_RUN_ID": "test"}
    processes = []
    for rank in range(size):
        environment = {name: str(value) for name, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        processes.append(context.Process(target=work, args=(config, environment)))
        processes[-1].start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


@pytest.mark.nightly
def test_several_processes_match_one(folder, tmp_path, capfd):
    from evaluation.evaluate_folders import evaluate_folders

    one = settings(folder, tmp_path / "one")
    assert evaluate_folders(one) == 3
    expected = json.loads((tmp_path / "one" / "results.json").read_text())
    assert expected["metrics"]["fid"]["n"] == 4
    assert expected["metrics"]["efid"]["n"] == 3
    assert expected["metrics"]["sync_d"]["value"] > 0
    capfd.readouterr()
    for size in (2, 4):
        place = tmp_path / str(size)
        assert on_ranks(settings(folder, place), size) == [3, *[0] * (size - 1)]
        found = json.loads((place / "results.json").read_text())
        for part in ("metrics", "clips", "missing", "n", "expected"):
            assert found[part] == expected[part], part
        assert found["environment"]["processes"] == str(size)
        assert sorted(path.name for path in place.iterdir()) == ["cache", "results.json"]
        assert capfd.readouterr().out.count("results  ") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [0.4, 1.0])  # more and fewer windows than processes
def test_windows_are_dealt_to_the_processes(folder, tmp_path, capfd, seconds):
    from evaluation.evaluate_folders import evaluate_folders

    assert evaluate_folders(settings(folder, tmp_path / "one", seconds)) == 3
    assert on_ranks(settings(folder, tmp_path / "two", seconds), 2) == [3, 0]
    capfd.readouterr()
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert all(value["drift"]["windows"] for value in one["metrics"].values())
    assert two["metrics"] == one["metrics"]


def test_shares_of_ranks():
    assert [Ranks(rank, 3).mine("abcdefg") for rank in range(3)] == [list("adg"), list("be"), list("cf")]
    assert Ranks().together([1, 2]) == [1, 2]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # the process of a batch script
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        (SLURM_STEP, (Ranks(5, 8, 1), "tcp://node7:")),
    ],
)
def test_launched_processes(environment, found, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    launched = _launched()
    if found is None:
        assert launched is None
    else:
        assert launched[0] == found[0]
        assert launched[1].startswith(found[1])
