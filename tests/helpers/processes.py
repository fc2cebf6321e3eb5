"""Processes that a tested command started."""

from contextlib import suppress

import psutil


def children(parent: int, words: str = "") -> list[psutil.Process]:
    """Returns the running processes below ``parent`` whose command line contains ``words``."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended after it was listed
            if words in " ".join(child.cmdline()):
                found.append(child)
    return found
