"""The process behind ``media.look``: reads requests from its input, looks at files in a fork, writes answers.

A request is a line of JSON with kind (media, recording, picture, headers or members), paths (hexadecimal bytes), their
places in archives, members and limits. An answer is a line of JSON with the properties found, an error, or the way in
which the process that looked has died. The server ends when its input does, so it does not outlive the process that
started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from media.archives import Member, remember
from media.limits import MediaLimits
from media.pictures import probe_picture
from media.probe import header_duration, probe, probe_member
from media.recording import probe_recording
from media.source import MediaError
from runtime.platforms import can_fork, limit_memory, limit_time

_OUT_OF_MEMORY = 86  # exit status


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until the input ends. A process that cannot fork answers one."""
    _write(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        if not can_fork():
            _look(request, answers, last=True)
            return
        if not (process := os.fork()):
            try:
                _look(request, answers)
            except BaseException:  # noqa: B036  the exit status tells the server
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status:
            _write(answers, {"died": _death(status)})


def _look(request: dict[str, Any], answers: BinaryIO, last: bool = False) -> None:
    """Limits this process and looks at one file, or at the headers of several."""
    limits = MediaLimits(**request["limits"])
    paths = [_path(path) for path in request["paths"]]
    for path, packed in zip(paths, request["packed"], strict=True):
        if packed is not None:
            remember(path, Member(_path(packed[0]), *packed[1:]))
    limit_time(limits.look_seconds)
    limit_memory(limits.look_memory, _OUT_OF_MEMORY)
    answer: dict[str, Any]
    try:
        answer = {"found": _found(request["kind"], paths, request["members"], limits)}
    except MediaError as error:
        refused = _is_memory(error)
        answer = {"died": "memory"} if refused else {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        answer = {"died": "memory"}
    _write(answers, {**answer, "last": last})


def _path(name: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(name)))


def _found(kind: str, paths: list[Path], members: list[tuple[str, int, int]], limits: MediaLimits) -> dict[str, Any]:
    if kind == "headers":
        return {"durations": [header_duration(path, limits) for path in paths]}
    if kind == "members":
        _look_at_members(paths[0], members, limits)
        return {}
    if kind == "picture":
        return asdict(probe_picture(paths[0], limits))
    return asdict(probe_recording(paths[0], limits) if kind == "recording" else probe(paths[0], limits))


def _look_at_members(path: Path, members: list[tuple[str, int, int]], limits: MediaLimits) -> None:
    """Reads the members of a shard. What is merely damaged is left to the reader, who names it."""
    with path.open("rb") as shard:
        for name, offset, size in members:
            shard.seek(offset)
            try:
                probe_member(shard.read(size), name, limits)
            except MediaError as error:
                if _is_memory(error):
                    raise


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error comes from memory that was refused."""
    while error is not None:
        if isinstance(error, MemoryError | BlockingIOError):  # the latter: no room for a thread
            return True
        error = error.__cause__ or error.__context__
    return False


def _death(status: int) -> str:
    """How a process ended: ``memory``, ``time``, or the name of a signal."""
    if status == _OUT_OF_MEMORY:
        return "memory"
    if status >= 0:
        return f"exit status {status}"
    if -status in (signal.SIGALRM, signal.SIGXCPU):
        return "time"
    return signal.Signals(-status).name


def _write(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print must not look like an answer
        serve(sys.stdin.buffer, answers)
