"""Only files that this program wrote are replaced."""

import json

import pytest

from runtime.ownership import ForeignFileError, require_own_json

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
