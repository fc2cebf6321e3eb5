"""Only files that this program wrote are replaced."""

import json

import pytest

from runtime.errors import UserError
from runtime.ownership import LIST, ForeignFileError, claim, require_own_files, require_own_json

RECORD = json.dumps({"schema": "emotivetalk.generation/1", "inputs": {"portrait": "face.png"}}, indent=1)


@pytest.mark.parametrize(
    "content",
    [
        RECORD,
        '{"inputs": {}, "schema": "emotivetalk.generation/7"}',  # another version, another order
        RECORD[:50],  # damaged
    ],
)
def test_own_files_may_be_replaced(tmp_path, content):
    path = tmp_path / "talk.json"
    require_own_json(path, "emotivetalk.generation", "output=talk.mp4")
    path.write_text(content)
    require_own_json(path, "emotivetalk.generation", "output=talk.mp4")


@pytest.mark.parametrize(
    "content",
    [
        b'{"my": "annotations of a year"}',
        b'{"schema": "emotivetalk.results/1"}',
        b'{"schema": "emotivetalk.generation2/1"}',
        b'[{"schema": "emotivetalk.generation/1"}]',
        b'{"schema": ["emotivetalk.generation/1"]}',
        b'{"note": "{\\"schema\\": \\"emotivetalk.generation/1\\"}',
        b"{",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_foreign_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    words = "was not written by this program and is not replaced; move it, or choose another output"
    with pytest.raises(ForeignFileError) as refused:
        require_own_json(path, "emotivetalk.generation", "output=talk.mp4")
    assert str(refused.value) == f"output=talk.mp4: {path} {words}"
    assert path.read_bytes() == content


def test_folders_and_dangling_links_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("folder", "link"):
        with pytest.raises(ForeignFileError):
            require_own_json(tmp_path / name, "emotivetalk.generation", "output=x")


def test_claimed_files_may_be_replaced_and_others_are_refused(tmp_path):
    folder = tmp_path / "out"
    claim(folder, ["a.png", "videos/b.mp4"], "output=out")
    (folder / "a.png").write_text("ours")
    (folder / "theirs.png").write_text("annotations of a year")
    claim(folder, ["a.png", "c.png"], "output=out")
    require_own_files(folder, ["a.png", "videos/b.mp4", "c.png"], "output=out")
    with pytest.raises(ForeignFileError, match=r"^output=out: .*/theirs\.png was not written by this program"):
        claim(folder, ["d.png", "theirs.png"], "output=out")
    claim(folder, ["theirs.png"], "output=out", ours=["theirs.png"])  # known by its content
    assert json.loads((folder / LIST).read_text())["files"] == ["a.png", "c.png", "theirs.png", "videos/b.mp4"]
    assert sorted(path.name for path in folder.iterdir()) == [LIST, "a.png", "theirs.png"]  # no lock is left


@pytest.mark.parametrize("content", ['{"files": ["a.png"]}', "[1]", "{" * 100_000, ""])
def test_a_list_of_somebody_else_is_not_replaced(tmp_path, content):
    (tmp_path / LIST).write_text(content)
    with pytest.raises(ForeignFileError):
        claim(tmp_path, ["a.png"], "output=out")
    assert (tmp_path / LIST).read_text() == content


@pytest.mark.parametrize("files", ["7", "null", '["a.png"'])
def test_a_damaged_list_is_named(tmp_path, files):
    (tmp_path / LIST).write_text('{"schema": "emotivetalk.files/1", "files": ' + files)
    with pytest.raises(UserError, match="lists the files that this program wrote, so choose another output"):
        claim(tmp_path, ["a.png"], "output=out")
