"""Notices whether a file is opened, and whether a server is asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

OPENED = 0x20 | 0x1  # IN_OPEN and IN_ACCESS


class Watch:
    """Counts the times that a file is opened or read, by the kernel's word (inotify)."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self.descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert library.inotify_add_watch(self.descriptor, os.fsencode(path), OPENED) > 0

    def count(self) -> int:
        """Events since the last call."""
        try:
            return len(os.read(self.descriptor, 1 << 16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[int]]]:
    """Yields the address of a server, and a list with an entry for each time that it was asked."""
    asked: list[int] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        server.settimeout(0.1)
        going = True

        def accept() -> None:
            while going:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                asked.append(1)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        going = False
        thread.join()
