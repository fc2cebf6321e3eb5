"""The password of the page, and the cookies that tell visitors apart.

A cookie is a random name with a signature of this server, so that nothing is stored for it. The password is compared in
constant time, and wrong ones are counted.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from generation.errors import GenerationError

VARIABLE = "EMOTIVETALK_PASSWORD"
MIN_LENGTH = 8  # characters of a password
WINDOW = 300.0  # seconds in which wrong passwords are counted
WRONG_EACH, WRONG_ALL = 10, 100  # wrong passwords in that time from one address, and from all

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>EmotiveTalk</title><style>
body {{ font-family: system-ui, "Segoe UI", Roboto, Arial, sans-serif; margin: 0; background: #fff; color: #27272a }}
main {{ max-width: 22rem; margin: 18vh auto 0; padding: 0 1.25rem }}
h1 {{ font-size: 1.7rem; margin: 0 0 1rem }}
label {{ display: block; margin-bottom: .4rem }}
input, button {{ box-sizing: border-box; width: 100%; padding: .7rem; font: inherit; border-radius: 4px }}
input {{ border: 1px solid #a1a1aa; background: inherit; color: inherit }}
button {{ margin-top: .8rem; border: 0; background: #c2410c; color: #fff; font-weight: 600; cursor: pointer }}
p {{ margin: 1rem 0 0; border-left: 4px solid #c2410c; padding-left: .6em }}
p:empty {{ display: none }}
@media (prefers-color-scheme: dark) {{ body {{ background: #18181b; color: #f4f4f5 }} }}
</style></head><body><main><h1>EmotiveTalk</h1>
<form method="post" action="{action}"><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<button>Enter</button></form><p role="alert">{message}</p></main></body></html>
"""


def read_password(file: str | None) -> str | None:
    """Password of the page: the first line of ``file``, or the environment variable; None without either.

    Raises:
        GenerationError: If the file cannot be read, or the password is too short.
    """
    if file is None:
        password, source = os.environ.get(VARIABLE), VARIABLE
        if not password:
            return None
    else:
        source = f"password_file={file}"
        try:
            password = next(iter(Path(file).read_text(encoding="utf-8").splitlines()), "")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not text in UTF-8"
            raise GenerationError(
                f"{source}: cannot be read ({why}); name a file whose first line is the password"
            ) from None
    if len(password) < MIN_LENGTH:
        raise GenerationError(
            f"{source}: has a password of {len(password)} characters, at least {MIN_LENGTH} are expected"
        )
    return password


class Cookies:
    """Issues and reads the signed cookies of one server. With a password, only a login issues them.

    Args:
        port: Port of the server, part of the cookie's name: browsers share cookies between the ports of a machine.
        path: Path of the page.
    """

    def __init__(self, port: int, path: str) -> None:
        self.name, self.path = f"emotivetalk-{port}", path or "/"
        self._key = secrets.token_bytes(32)

    def issue(self, secure: bool) -> tuple[str, str]:
        """Returns the name of a new visitor and the Set-Cookie header."""
        value = secrets.token_hex(16)
        cookie = f"{self.name}={value}.{self._signature(value)}; Path={self.path}; HttpOnly; SameSite=Lax"
        return self._visitor(value), f"{cookie}; Secure" if secure else cookie

    def visitor(self, header: str) -> str | None:
        """Name of the visitor of a Cookie header; None if it has no valid cookie."""
        for part in header.split(";"):
            name, _, content = part.strip().partition("=")
            value, _, signature = content.partition(".")
            if name == self.name and hmac.compare_digest(signature.encode(), self._signature(value).encode()):
                return self._visitor(value)
        return None

    def _signature(self, value: str) -> str:
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def _visitor(value: str) -> str:
        return hashlib.sha256(value.encode()).hexdigest()[:20]


class Login:
    """Checks passwords and limits how many may be tried.

    Args:
        password: The password.
        clock: Source of the time, seconds.
    """

    def __init__(self, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest, self.clock = hashlib.sha256(password.encode()).digest(), clock
        self._wrong: deque[tuple[float, str]] = deque(maxlen=WRONG_ALL)  # (time, address)
        self._lock = threading.Lock()

    def is_limited(self, address: str) -> bool:
        """Whether too many wrong passwords came from an address, or from all, to look at another."""
        with self._lock:
            recent = [sender for when, sender in self._wrong if self.clock() - when < WINDOW]
        return len(recent) >= WRONG_ALL or recent.count(address) >= WRONG_EACH

    def is_right(self, password: str, address: str) -> bool:
        """Compares a password. A wrong one is counted."""
        right = hmac.compare_digest(hashlib.sha256(password.encode(errors="replace")).digest(), self._digest)
        if not right:
            with self._lock:
                self._wrong.append((self.clock(), address))
        return right


def login_page(root_path: str, message: str = "") -> str:
    """HTML of the page that asks for the password."""
    return PAGE.format(action=html.escape(f"{root_path}/login"), message=html.escape(message))
