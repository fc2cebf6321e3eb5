"""Videos pair by name, in subfolders, in any container, and nothing is lost silently."""

import pytest

from evaluation.pairs import EvaluationError, pair_videos
from tests.helpers.files import touch


def test_names_without_endings_pair_in_subfolders(tmp_path):
    made = touch(tmp_path / "made", "M003/happy (1).mkv", "M005/happy (1).MP4", "notes.txt", ".hidden.mp4")
    real = touch(tmp_path / "real", "M003/happy (1).mp4", "M005/happy (1).mov")
    pairing = pair_videos(made, real)
    assert [(pair.clip, pair.generated.name, pair.reference.name) for pair in pairing.pairs] == [
        ("M003/happy (1)", "happy (1).mkv", "happy (1).mp4"),
        ("M005/happy (1)", "happy (1).MP4", "happy (1).mov"),
    ]
    assert not pairing.missing


def test_a_flat_folder_pairs_with_a_nested_one_where_names_are_unique(tmp_path):
    made = touch(tmp_path / "made", "a.mp4", "b.mp4")
    real = touch(tmp_path / "real", "x/a.mp4", "x/b.mp4", "y/b.mp4")
    pairing = pair_videos(made, real)
    assert [pair.clip for pair in pairing.pairs] == ["x/a"]
    assert {(row.clip, row.side) for row in pairing.missing} == {
        ("x/b", "generated"), ("y/b", "generated"), ("b", "reference"),
    }  # fmt: skip


def test_videos_without_a_partner_and_doubled_names_are_reported(tmp_path):
    made = touch(tmp_path / "made", "a.mp4", "b.mp4", "b.avi", "only made.mp4")
    real = touch(tmp_path / "real", "a.mp4", "b.mp4", "only real.mp4")
    pairing = pair_videos(made, real)
    assert [pair.clip for pair in pairing.pairs] == ["a"]
    reasons = {(row.clip, row.side): row.reason for row in pairing.missing}
    assert reasons == {
        ("b", "generated"): "2 videos have this name: b.avi, b.mp4",
        ("only made", "reference"): "no reference video for only made.mp4",
        ("only real", "generated"): "no generated video for only real.mp4",
    }
    assert pairing.expected == 4


def test_nothing_to_pair_is_an_error_that_shows_both_names(tmp_path):
    made, real = touch(tmp_path / "made", "a.mp4"), touch(tmp_path / "real", "b.mp4")
    with pytest.raises(EvaluationError, match="'a' and 'b'"):
        pair_videos(made, real)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="has no video"):
        pair_videos(tmp_path / "empty", real)
