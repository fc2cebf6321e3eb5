"""Folder checkpoints (DeepSpeed): commit, pruning and integrity check."""

import pytest
import torch

from lightning_modules.checkpoint_files import check_whole, clear_parts, commit, prune, steps_of, zero_ranks
from lightning_modules.checkpoints import CheckpointError
from tests.helpers.refusals import refuses


def write(folder, name, ranks=2):
    """Writes a minimal checkpoint folder in DeepSpeed's layout."""
    inside = folder / name / "checkpoint"
    inside.mkdir(parents=True)
    torch.save({"module": {}, "dp_world_size": ranks}, inside / "mp_rank_00_model_states.pt")
    for rank in range(ranks):
        torch.save({}, inside / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (folder / name / "latest").write_text("checkpoint")
    return folder / name


def test_commit_replaces_an_existing_folder(tmp_path):
    first = commit(write(tmp_path, "step=5.ckpt.part"))
    assert (tmp_path / "last.ckpt").resolve() == first
    (first / "old").touch()
    assert commit(write(tmp_path, "step=5.ckpt.part")) == first
    assert not (first / "old").exists()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["last.ckpt", "step=5.ckpt"]
    check_whole(tmp_path / "last.ckpt")
    assert zero_ranks(tmp_path / "last.ckpt") == 2


def test_prune_keeps_the_targets_of_links(tmp_path):
    for step in (1, 2, 3, 10):
        commit(write(tmp_path, f"step={step}.ckpt.part"))
    (tmp_path / "best.ckpt").symlink_to("step=1.ckpt")
    prune(tmp_path, 2)
    assert list(steps_of(tmp_path)) == [1, 3, 10]
    write(tmp_path, "step=11.ckpt.part")
    clear_parts(tmp_path)
    assert list(steps_of(tmp_path)) == [1, 3, 10]
    assert not list(tmp_path.glob("*.part"))


def test_missing_and_truncated_parts_are_named(tmp_path):
    commit(write(tmp_path, "step=1.ckpt.part"))
    last = commit(write(tmp_path, "step=2.ckpt.part", ranks=3))
    states = sorted((last / "checkpoint").glob("*optim_states.pt"))
    states[1].write_bytes(states[1].read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"step=2\.ckpt.*rank_1_mp_rank_00_optim.* truncated.*step=1\.ckpt"):
        check_whole(tmp_path / "last.ckpt")
    states[1].unlink()
    refuses(CheckpointError, r"optimizer states of ranks \[1\] are missing", check_whole, last)
    states[2].unlink()  # the last rank: only dp_world_size shows that it is missing
    refuses(CheckpointError, r"optimizer states of ranks \[1, 2\] are missing", check_whole, last)
    (last / "checkpoint" / "mp_rank_00_model_states.pt").unlink()
    refuses(CheckpointError, "a folder without checkpoint/mp_rank_00_model_states", check_whole, last)
