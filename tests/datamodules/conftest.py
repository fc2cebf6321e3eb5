"""Shards with clips of three lengths."""

import pytest

from tests.helpers.shards import make_shards


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Shards of twelve clips; read-only."""
    path = tmp_path_factory.mktemp("shards")
    make_shards(path, frames=(30, 45, 60))
    return path
