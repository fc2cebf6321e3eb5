"""Opens what ``stream=`` names: a pipe that frames are written to while they are made."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from rich.console import Console
from rich.markup import escape

from generation.errors import GenerationError

STDOUT = "-"


@dataclass(frozen=True)
class LiveStream:
    """A pipe that takes a video's frames while later ones are sampled.

    Attributes:
        file: Binary file open for writing, which need not be seekable.
        name: Its name in messages.
        kind: ``mp4``, a fragmented MP4 with sound, or ``rgb24``, the bytes of the frames.
    """

    file: BinaryIO
    name: str
    kind: Literal["mp4", "rgb24"] = "mp4"


@contextmanager
def opened_stream(target: str | None, kind: str, console: Console) -> Iterator[LiveStream | None]:
    """Opens a named pipe, waiting for its reader, or takes standard output: what is printed then goes to stderr.

    Args:
        target: Path of a named pipe, or ``-``; None for no stream.
        kind: ``mp4`` or ``rgb24``.
        console: Where a note is printed while no reader has opened the pipe.

    Raises:
        GenerationError: If it is no pipe, or cannot be opened.
    """
    if target is None:
        yield None
        return
    name = f"stream={target}"
    file = _standard_output(name) if target == STDOUT else _named_pipe(target, name, console)
    try:
        yield LiveStream(file, name, cast(Literal["mp4", "rgb24"], kind))
    finally:
        with suppress(BrokenPipeError):  # of bytes that a reader no longer wants
            file.close()


def _standard_output(name: str) -> BinaryIO:
    if os.isatty(1):
        raise GenerationError(
            f"{name}: standard output is a terminal; send it to a program, e.g. | ffplay -, or to a file, > live.mp4"
        )
    sys.stdout.flush()
    taken = os.dup(1)
    os.dup2(2, 1)  # a library that prints would otherwise write into the video
    return os.fdopen(taken, "wb")


def _named_pipe(target: str, name: str, console: Console) -> BinaryIO:
    path = Path(target)
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            kind = "a folder" if stat.S_ISDIR(mode) else "a file"
            raise GenerationError(
                f"{name}: is {kind}, expected a named pipe (mkfifo) or - for standard output; output= writes a file"
            )
        if stat.S_ISFIFO(mode):
            console.print(f"[dim]{escape(name)}: waits until a program reads it[/]", soft_wrap=True)
        return path.open("wb")
    except FileNotFoundError:
        raise GenerationError(
            f"{name}: no such pipe; make it with mkfifo {target}, or use - for standard output"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GenerationError(f"{name}: cannot be opened ({reason}); expected a named pipe, or -") from error
