"""Looking at a stranger's file in a child process with limits of memory and time, before this process reads it.

A server process (``media.look_server``) imports NumPy, PyAV and Pillow once and forks a process for every look. That
process limits its own memory and time, reads headers, the times of all packets and the first picture, and ends. A file
that makes FFmpeg or Pillow allocate without end, loop or crash ends that process alone. A caller can stop a look
(``runtime.stopping``). Members of a shard are looked at in its place (``dangerous_member``).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

from media.archives import member_of
from media.limits import LIMITS, RECORDINGS, MediaLimits
from media.pictures import PictureInfo
from media.probe import MediaInfo
from media.source import MediaError, NoSound, NotMedia, identify
from runtime.platforms import end_group
from runtime.stopping import checkpoint

Member = tuple[str, int, int]  # name, offset and size in bytes of a file in a shard
POLL = 0.05  # seconds between two checks whether to stop
_START = 120.0  # seconds for the imports of a server, which may come from a busy network disk
_KEPT = 8  # servers that wait for the next look
_GRACE = 1.0  # seconds that a look may exceed its limit before the server is killed as well
# One thread and one heap, since the address space is limited.
_SMALL = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


_ERRORS = {"NoSound": NoSound, "NotMedia": NotMedia}


class LookLimit(MediaError):
    """A file that needs more memory or time than looking at it may take, or ends the process that looks at it."""


def look_at(path: str | Path, *, limits: MediaLimits = LIMITS) -> MediaInfo:
    """Reads the properties of a video or sound file as ``probe`` does, in a child process.

    Args:
        path: Video or sound file.
        limits: Limits on the file, and on memory and time.

    Raises:
        MediaError: As ``probe``.
        LookLimit: If looking takes more memory or time than its limits, or crashes.
    """
    return MediaInfo(**_look("media", [identify(path)[0]], limits))


def look_at_recording(path: str | Path, *, limits: MediaLimits = LIMITS) -> MediaInfo:
    """Reads the properties of a file's sound as ``probe_recording`` does, in a child process; errors of ``look_at``."""
    return MediaInfo(**_look("recording", [identify(path)[0]], limits))


def look_at_picture(path: str | Path, *, limits: MediaLimits = LIMITS) -> PictureInfo:
    """Decodes a picture in a child process and returns its properties; arguments and errors as of ``look_at``."""
    return PictureInfo(**_look("picture", [identify(path, "a picture")[0]], limits))


def look_at_headers(paths: Sequence[Path], *, limits: MediaLimits = LIMITS) -> list[float | None]:
    """Reads the lengths of videos from their headers, all in one child process: ``probe.header_duration`` of each.

    Args:
        paths: Absolute paths of video files.
        limits: Limits on each file, and on memory and time of all.

    Returns:
        Seconds on each clip's clock; None where ``look_at`` has to tell, for all if one ends the child process.
    """
    try:
        return list(_look("headers", paths, limits)["durations"]) if paths else []
    except LookLimit:
        return [None] * len(paths)


def dangerous_member(path: str | Path, members: Sequence[Member], *, limits: MediaLimits = RECORDINGS) -> str | None:
    """Looks at the sound and the videos of a shard, in a child process.

    A damaged member is not reported, since reading it names it.

    Args:
        path: Shard.
        members: Name, which ends in .flac or .mp4, offset and size of each, bytes.
        limits: Limits on each, and on memory and time for all.

    Returns:
        What is wrong with the first member that needs more memory or time than its limits, or ends the process that
        looks at it; None if there is none.

    Raises:
        MediaError: If the shard cannot be read.
    """
    found, one = identify(path, "a shard")[0], min(limits.look_seconds, LIMITS.look_seconds)
    try:
        _look("members", [found], limits, list(members))
    except LookLimit as error:
        for member in members:
            try:
                _look("members", [found], replace(limits, look_seconds=one), [member])
            except LookLimit as reason:
                return f"{member[0]}: {str(reason).removeprefix(f'{found}: ')}"
        return str(error).removeprefix(f"{found}: ")
    return None


class _Server:
    """A process that looks at one file at a time."""

    def __init__(self) -> None:
        # The package is found from its own folder, and nothing is imported from the current one (-P).
        places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "media.look_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_SMALL, "PYTHONPATH": os.pathsep.join(places)},
            start_new_session=True,  # Ctrl-C reaches the parent, which ends the look
        )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def ask(self, request: dict[str, Any]) -> None:
        """Sends a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next answer, also when none comes in time or the server has ended. Stopping is possible meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            checkpoint()
            with contextlib.suppress(queue.Empty):
                line = self.lines.get(timeout=POLL)
                return json.loads(line) if line else {"died": "without a word"}
        return {"died": "time"}

    def close(self) -> None:
        """Ends the server and what it started."""
        end_group(self.process, force=True)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # bytes of a request that were not sent
                    pipe.close()


_idle: list[_Server] = []


def _forget() -> None:
    """In a forked process: the servers belong to the parent."""
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _look(kind: str, paths: Sequence[Path], limits: MediaLimits, members: Sequence[Member] = ()) -> dict[str, Any]:
    """Asks a server that waits, or a new one, and keeps it for the next look unless something went wrong."""
    server = _taken(paths[0])
    answer: dict[str, Any] = {"died": "without a word"}
    try:
        with contextlib.suppress(BrokenPipeError):
            place = {
                "paths": [os.fsencode(path).hex() for path in paths],
                "packed": [_packed(path) for path in paths],
                "members": list(members),
            }
            server.ask({"kind": kind, "limits": asdict(limits), **place})
            answer = server.answer(limits.look_seconds + _GRACE)
    finally:
        if "last" in answer and not answer["last"] and len(_idle) < _KEPT:
            _idle.append(server)
        else:
            server.close()
    return _checked(paths[0], limits, answer)


def _packed(path: Path) -> list[Any] | None:
    """Where a file lies in an archive, which the server then need not list; None if it is in none."""
    with contextlib.suppress(OSError):
        if (member := member_of(path)) is not None:
            return [os.fsencode(member.archive).hex(), *astuple(member)[1:]]
    return None


def _taken(path: Path) -> _Server:
    """A server that waits for a request."""
    while _idle:
        server = _idle.pop()
        if server.process.poll() is None:
            return server
        server.close()
    server = _Server()
    try:
        if "ready" not in server.answer(_START):
            raise LookLimit(f"{path}: the process that looks at files does not start; try python -m media.look_server")
    except BaseException:
        server.close()
        raise
    return server


def _checked(path: Path, limits: MediaLimits, answer: dict[str, Any]) -> dict[str, Any]:
    """The properties in an answer, or the error that it describes."""
    if answer.get("died") == "time":
        raise LookLimit(
            f"{path}: looking at it takes longer than {limits.look_seconds:g} s; shorten it, or re-encode it"
        )
    if answer.get("died") == "memory":
        raise LookLimit(f"{path}: looking at it takes more than {limits.look_memory >> 20} MiB of memory; re-encode it")
    if "died" in answer:
        raise LookLimit(f"{path}: reading it ends the process ({answer['died']}); it is damaged: re-encode it")
    if "error" in answer:
        raise _ERRORS.get(answer["error"], MediaError)(answer["message"])
    return dict(answer["found"])
