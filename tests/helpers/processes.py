"""Processes that a tested command started."""

import psutil


def children(parent: int, words: str = "") -> list[psutil.Process]:
    """Returns the running processes below ``parent`` whose command line contains ``words``."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if words in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it ended after it was listed
            continue
    return found
