"""The password, its limits, and cookies."""

import pytest

from generation.errors import GenerationError
from generation.web.login import WINDOW, WRONG_ALL, WRONG_EACH, Cookies, Login, login_page, read_password
from tests.helpers.refusals import refuses


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_wrong_passwords_are_limited_by_address_and_in_all():
    clock = Clock()
    login = Login("correct horse", clock)
    for _ in range(WRONG_EACH):
        assert not login.is_limited("a")
        assert not login.is_right("wrong", "a")
    assert login.is_limited("a")
    assert not login.is_limited("b")
    assert login.is_right("correct horse", "b")
    for number in range(WRONG_ALL):
        login.is_right("", str(number))
    assert login.is_limited("c")
    clock.now += WINDOW
    assert not login.is_limited("a")
    assert not login.is_right("\udcff", "a")


def test_cookies_cannot_be_made_up_or_used_at_another_server():
    cookies = Cookies(7860, "/talk")
    name, header = cookies.issue(secure=True)
    assert header.endswith("; Path=/talk; HttpOnly; SameSite=Lax; Secure")
    cookie = header.partition(";")[0]
    assert cookies.visitor(f"other=1; {cookie}") == name
    assert name not in header  # the folder's name does not reveal the cookie
    assert Cookies(7860, "/talk").visitor(cookie) is None
    for forged in ("", "emotivetalk-7860=", "emotivetalk-7860=a.b", cookie[:-1], cookie.replace("=", "=0"), "é=é"):
        assert cookies.visitor(forged) is None


def test_the_password_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("EMOTIVETALK_PASSWORD", raising=False)
    assert read_password(None) is None
    monkeypatch.setenv("EMOTIVETALK_PASSWORD", "from the environment")
    assert read_password(None) == "from the environment"
    (tmp_path / "file").write_text("from the file\nsecond line\n")
    assert read_password(str(tmp_path / "file")) == "from the file"
    (tmp_path / "file").write_text("")
    refuses(GenerationError, "has a password of 0 characters, at least 8", read_password, str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    refuses(GenerationError, "cannot be read .is not text in UTF-8", read_password, str(tmp_path / "file"))
    refuses(GenerationError, "cannot be read .Is a directory", read_password, str(tmp_path))


@pytest.mark.parametrize("words", ["", "<script>"])
def test_the_page_escapes_what_it_shows(words):
    page = login_page('/"><script>', words)
    assert "<script>" not in page
