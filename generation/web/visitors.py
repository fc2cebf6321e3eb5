"""Who owns which files of the page, how much each visitor may keep, and when files are deleted.

A visitor is a browser: the gate recognises it by its cookie. A session is one open page of a visitor; Gradio names it.
An upload belongs to the sessions that were open when it came, and to those that use it. When the last of them is
closed, it is deleted. A video belongs to one session.

    folder/visitors/VISITOR/uploads/RANDOM/face.png
    folder/visitors/VISITOR/SESSION/face_voice.mp4
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from configs.app import AppConfig
from generation.errors import GenerationError
from runtime.files import remove

GRACE = 10.0  # seconds after which a page without a connection counts as closed
MAX_SESSIONS = 20  # open pages of a visitor
UPLOADS = "uploads"


@dataclass
class Upload:
    """A file of a visitor: its size in bytes, the time it came, and the sessions that it belongs to."""

    size: int
    since: float
    sessions: set[str]


@dataclass
class Session:
    """An open page.

    Attributes:
        visitor: Name of its visitor.
        since: Time of its last request, or of the end of its connection.
        connected: Connections that the page holds open while it is shown.
        seen: Whether it ever held one.
        busy: Whether a video is being made.
    """

    visitor: str
    since: float
    connected: int = 0
    seen: bool = False
    busy: bool = False


@dataclass
class Visitor:
    """Uploads of a visitor, and the bytes of those that are still coming in."""

    uploads: dict[Path, Upload] = field(default_factory=dict)
    incoming: int = 0

    @property
    def size(self) -> int:
        """Bytes of all uploads."""
        return self.incoming + sum(upload.size for upload in self.uploads.values())


class Visitors:
    """The visitors of a page and their files.

    Args:
        config: Limits.
        folder: Folder of the server.
        on_closed: Called with each session that was closed, before its files are deleted.
        clock: Source of the time, seconds.
    """

    def __init__(
        self,
        config: AppConfig,
        folder: Path,
        on_closed: Callable[[str], object] = lambda session: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.on_closed, self.clock = config, on_closed, clock
        self.examples, self._folder = folder / "examples", folder / "visitors"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._visitors: dict[str, Visitor] = {}
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def bind(self, visitor: str, session: str) -> None:
        """Registers a session at its first request.

        Raises:
            PermissionError: If the session belongs to another visitor, or the visitor has too many.
        """
        with self._lock:
            found = self._sessions.get(session)
            if found is None:
                if sum(one.visitor == visitor for one in self._sessions.values()) >= MAX_SESSIONS:
                    raise PermissionError(f"more than {MAX_SESSIONS} open pages; close some")
                found = self._sessions[session] = Session(visitor, self.clock())
            if found.visitor != visitor:
                raise PermissionError("this page belongs to another visitor")
            found.since = self.clock()

    @contextmanager
    def connection(self, session: str) -> Iterator[None]:
        """Marks a bound session as shown while the block runs."""
        with self._lock:
            found = self._sessions[session]
            found.connected, found.seen = found.connected + 1, True
        try:
            yield
        finally:
            with self._lock:
                found.connected, found.since = found.connected - 1, self.clock()

    @contextmanager
    def request(self, session: str) -> Iterator[Path]:
        """Yields the empty folder of a session's video, which is not deleted while the block runs.

        Raises:
            GenerationError: If the session has a running request, or was closed meanwhile.
        """
        with self._lock:
            found = self._bound(session)
            if found.busy:
                raise GenerationError("This page makes a video already; wait until it is done, or stop it.")
            found.busy = True
        home = self._folder / found.visitor / session
        try:
            shutil.rmtree(home, ignore_errors=True)  # the previous video was downloaded or is not needed
            home.mkdir(parents=True)
            yield home
        finally:
            with self._lock:
                found.busy = False

    def visitor_of(self, session: str) -> str:
        """Name of the visitor of a bound session.

        Raises:
            GenerationError: If the session was closed meanwhile.
        """
        return self._bound(session).visitor

    def owns(self, visitor: str, path: str | Path) -> bool:
        """Whether a visitor may use a file: it is theirs, or an example. Links are resolved."""
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links
            return False
        return any(folder in resolved.parents for folder in (self._folder / visitor, self.examples))

    def use(self, session: str, path: Path) -> None:
        """Notes that a session uses an upload.

        Raises:
            FileNotFoundError: If the file is not an example or an upload of the session's visitor, or is gone.
        """
        with self._lock:
            visitor = self.visitor_of(session)
            if not self.owns(visitor, path) or not path.is_file():
                raise FileNotFoundError(path.name)
            if (upload := self._entry(visitor).uploads.get(path)) is not None:
                upload.sessions.add(session)

    def take(self, visitor: str, size: int) -> None:
        """Reserves room for ``size`` incoming bytes of a visitor.

        Raises:
            GenerationError: If the visitor, or all visitors together, would keep more than is allowed.
        """
        most, all_most = self.config.visitor_megabytes * 1e6, self.config.total_megabytes * 1e6
        with self._lock:
            entry = self._entry(visitor)
            if entry.size + size > most:
                raise GenerationError(
                    f"Your uploads would have more than {most / 1e6:g} MB together; close other pages of yours, or "
                    "reload this one."
                )
            if sum(one.size for one in self._visitors.values()) + size > all_most:
                raise GenerationError("The server has no room for more uploads now; try again in a few minutes.")
            entry.incoming += size

    def give_back(self, visitor: str, size: int) -> None:
        """Releases room that was reserved with ``take``."""
        with self._lock:
            self._entry(visitor).incoming -= size

    def new_file(self, visitor: str, name: str) -> Path:
        """Path for an upload of a visitor, in a new folder.

        Raises:
            GenerationError: If the visitor keeps as many files as are allowed.
        """
        with self._lock:
            kept = self._entry(visitor).uploads
            if len(kept) >= self.config.visitor_files:
                raise GenerationError(f"You have {len(kept)} uploads; reload the page, which deletes them.")
            path = self._folder / visitor / UPLOADS / secrets.token_hex(8) / name
            path.parent.mkdir(parents=True)
            sessions = {name for name, one in self._sessions.items() if one.visitor == visitor}
            kept[path] = Upload(0, self.clock(), sessions)
        return path

    def stored(self, visitor: str, path: Path, size: int) -> None:
        """Records the size of an upload that was written."""
        with self._lock:
            if (upload := self._entry(visitor).uploads.get(path)) is not None:
                upload.size = size

    def discard(self, visitor: str, path: Path) -> None:
        """Deletes an upload."""
        with self._lock:
            self._entry(visitor).uploads.pop(path, None)
            remove(path.parent)

    def sweep(self) -> None:
        """Deletes what belongs to closed pages, and what no page held for ``keep_minutes``."""
        with self._lock:
            closed = [name for name, session in self._sessions.items() if self._is_closed(session)]
        for name in closed:
            self.on_closed(name)  # stops its video
        with self._lock:
            for name in closed:
                if self._is_closed(session := self._sessions[name]) and not session.busy:
                    del self._sessions[name]
                    remove(self._folder / session.visitor / name)
            for visitor, entry in list(self._visitors.items()):
                self._sweep_uploads(visitor, entry)
                if not entry.uploads and not entry.incoming and not self._has_session(visitor):
                    del self._visitors[visitor]
                    remove(self._folder / visitor)
            for left in self._folder.iterdir():
                if left.name not in self._visitors and not self._has_session(left.name):
                    remove(left)

    def _sweep_uploads(self, visitor: str, entry: Visitor) -> None:
        for path, upload in list(entry.uploads.items()):
            had = bool(upload.sessions)
            upload.sessions &= self._sessions.keys()
            if (had or self._is_old(upload.since)) and not upload.sessions:
                self.discard(visitor, path)

    def _is_closed(self, session: Session) -> bool:
        if session.connected:
            return False
        return self.clock() - session.since > GRACE if session.seen else self._is_old(session.since)

    def _is_old(self, since: float) -> bool:
        return self.clock() - since > 60 * self.config.keep_minutes

    def _bound(self, session: str) -> Session:
        found = self._sessions.get(session)
        if found is None:
            raise GenerationError("This page was closed; open it again.")
        return found

    def _has_session(self, visitor: str) -> bool:
        return any(session.visitor == visitor for session in self._sessions.values())

    def _entry(self, visitor: str) -> Visitor:
        return self._visitors.setdefault(visitor, Visitor())
