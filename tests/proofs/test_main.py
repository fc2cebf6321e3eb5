"""A folder that is not there is said before hours of proofs begin."""

import pytest

from proofs.__main__ import main


@pytest.mark.parametrize("option", ["--videos", "--clip"])
def test_a_folder_that_is_not_there(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for given in ("nowhere", "file"):
        assert main([option, given, "--list"]) == 2
        assert capsys.readouterr().err == f"error: {option} {tmp_path / given}: no such folder\n"
