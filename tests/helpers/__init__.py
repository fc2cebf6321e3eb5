"""Helpers shared by tests of several packages."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
