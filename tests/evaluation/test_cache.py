"""Features are stored by everything they depend on; damaged files are replaced, unwritable folders are reported."""

import numpy as np
import pytest

from evaluation.cache import FeatureStore
from evaluation.pairs import EvaluationError


def test_stored_arrays_are_read_bit_for_bit(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    store = FeatureStore(tmp_path / "new" / "folder")
    store.fetch({"content": "a"}, lambda: {"features": rows, "seen": np.asarray(9)})
    found = FeatureStore(store.folder).fetch({"content": "a"}, lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(found["features"], rows)
    assert found["features"].dtype == np.float32
    assert int(found["seen"]) == 9


def test_keys_are_independent(tmp_path):
    store = FeatureStore(tmp_path)
    for number, key in enumerate(({"content": "a"}, {"content": "b"}, {"content": "a", "network": "n"})):
        made = store.fetch(key, lambda number=number: {"features": np.full((1, 1), number)})
        assert made["features"].item() == number
    assert (store.hits, store.misses) == (0, 3)


def test_failures_are_not_stored_and_damaged_files_are_replaced(tmp_path):
    store = FeatureStore(tmp_path)

    def fail():
        raise ValueError("broken video")

    with pytest.raises(ValueError, match="broken video"):
        store.fetch({"content": "a"}, fail)
    store.fetch({"content": "a"}, lambda: {"features": np.ones((2, 2))})
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:50])
    recomputed = store.fetch({"content": "a"}, lambda: {"features": np.full((2, 2), 5.0)})
    assert recomputed["features"].sum() == 20
    assert not list(tmp_path.rglob("*partial"))


def test_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="set cache=FOLDER"):
        FeatureStore(tmp_path / "file" / "cache")
