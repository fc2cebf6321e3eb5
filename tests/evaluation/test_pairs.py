"""Videos are paired by name in subfolders and with any extension; all others are reported."""

import pytest

from evaluation.pairs import EvaluationError, find_videos, pair_videos
from tests.helpers.files import touch


def test_pairs_in_subfolders_with_other_extensions(tmp_path):
    generated = touch(tmp_path / "generated", "M003/happy (1).mkv", "M005/happy (1).MP4", "notes.txt", ".hidden.mp4")
    reference = touch(tmp_path / "reference", "M003/happy (1).mp4", "M005/happy (1).mov")
    pairing = pair_videos(generated, reference)
    assert [(pair.clip, pair.generated.name, pair.reference.name) for pair in pairing.pairs] == [
        ("M003/happy (1)", "happy (1).mkv", "happy (1).mp4"),
        ("M005/happy (1)", "happy (1).MP4", "happy (1).mov"),
    ]
    assert not pairing.missing


def test_flat_and_nested_folder_pair_by_unique_names(tmp_path):
    generated = touch(tmp_path / "generated", "a.mp4", "b.mp4")
    reference = touch(tmp_path / "reference", "x/a.mp4", "x/b.mp4", "y/b.mp4")
    pairing = pair_videos(generated, reference)
    assert [pair.clip for pair in pairing.pairs] == ["x/a"]
    assert {(row.clip, row.side) for row in pairing.missing} == {
        ("x/b", "generated"), ("y/b", "generated"), ("b", "reference"),
    }  # fmt: skip


def test_videos_without_counterpart_and_ambiguous_names(tmp_path):
    generated = touch(tmp_path / "generated", "a.mp4", "b.mp4", "b.avi", "only made.mp4")
    reference = touch(tmp_path / "reference", "a.mp4", "b.mp4", "only real.mp4")
    pairing = pair_videos(generated, reference)
    assert [pair.clip for pair in pairing.pairs] == ["a"]
    reasons = {(row.clip, row.side): row.reason for row in pairing.missing}
    assert reasons == {
        ("b", "generated"): "2 videos have this name: b.avi, b.mp4",
        ("only made", "reference"): "no reference video for only made.mp4",
        ("only real", "generated"): "no generated video for only real.mp4",
    }
    assert pairing.expected == 4


def test_no_pair_is_an_error_with_both_names(tmp_path):
    generated, reference = touch(tmp_path / "generated", "a.mp4"), touch(tmp_path / "reference", "b.mp4")
    with pytest.raises(EvaluationError, match="'a' and 'b'"):
        pair_videos(generated, reference)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="has no video"):
        pair_videos(tmp_path / "empty", reference)


def test_links_to_folders_above_are_not_followed(tmp_path):
    touch(tmp_path / "videos", "a.mp4", "sub/b.mp4")
    touch(tmp_path / "other", "c.mp4")
    (tmp_path / "videos" / "sub" / "up").symlink_to(tmp_path / "videos")
    (tmp_path / "videos" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "videos")
    assert sorted(find_videos(tmp_path / "videos")) == ["a", "other/c", "sub/b"]
