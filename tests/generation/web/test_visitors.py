"""Owners of files and sessions, totals, and deletion, with a clock that the test sets."""

import pytest

from configs.app import AppConfig
from generation.errors import GenerationError
from generation.web.visitors import GRACE, MAX_SESSIONS, Visitors


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visitors(tmp_path, clock):
    config = AppConfig(ethd="run", visitor_megabytes=1, visitor_files=3, total_megabytes=1.5, keep_minutes=30)
    (tmp_path / "examples").mkdir()
    found = Visitors(config, tmp_path, clock=clock)
    found.closed = []
    found.on_closed = found.closed.append
    return found


def upload(visitors, visitor, name="face.png", content=b"x"):
    path = visitors.new_file(visitor, name)
    path.write_bytes(content)
    visitors.stored(visitor, path, len(content))
    return path


def sweep_after(visitors, clock, seconds):
    clock.now += seconds
    visitors.sweep()


def left(tmp_path):
    return list((tmp_path / "visitors").iterdir())


def test_equal_uploads_of_two_visitors_are_two_files(visitors):
    mine, theirs = upload(visitors, "a"), upload(visitors, "b")
    assert mine != theirs
    assert visitors.owns("a", mine)
    assert not visitors.owns("b", mine)
    visitors.bind("b", "page")
    with pytest.raises(FileNotFoundError):
        visitors.use("page", mine)


def test_files_outside_of_the_visitors_folder_are_not_owned(visitors, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "examples" / "Jun.png").write_text("x")
    mine = upload(visitors, "a")
    (mine.parent / "link.png").symlink_to(tmp_path / "secret")
    (mine.parent / "loop.png").symlink_to(mine.parent / "loop.png")
    assert visitors.owns("a", tmp_path / "examples" / "Jun.png")
    for path in (tmp_path / "secret", mine.parent / "link.png", mine.parent / ".." / ".." / ".." / ".." / "secret",
                 mine.parent / "loop.png" / "x", "a\0b", "", "relative.png", tmp_path / "visitors" / "a",
                 tmp_path / "examples"):  # fmt: skip
        assert not visitors.owns("a", path), path


def test_a_session_belongs_to_its_first_visitor(visitors):
    visitors.bind("a", "page")
    with pytest.raises(PermissionError, match="another visitor"):
        visitors.bind("b", "page")
    for number in range(1, MAX_SESSIONS):
        visitors.bind("a", f"page{number}")
    with pytest.raises(PermissionError, match="open pages"):
        visitors.bind("a", "more")


def test_closing_a_page_deletes_its_uploads_used_or_not(visitors, clock, tmp_path):
    visitors.bind("a", "page")
    with visitors.connection("page"):
        upload(visitors, "a")
        with visitors.request("page") as home:
            (home / "video.mp4").write_text("x")
        sweep_after(visitors, clock, 24 * 3600)
        assert (home / "video.mp4").exists()
        assert len(visitors._visitors["a"].uploads) == 1
    sweep_after(visitors, clock, GRACE / 2)
    assert (home / "video.mp4").exists()  # the page may connect again
    sweep_after(visitors, clock, GRACE)
    assert left(tmp_path) == []
    assert visitors.closed == ["page"]


def test_what_no_page_held_is_deleted_after_keep_minutes(visitors, clock, tmp_path):
    upload(visitors, "a")  # by a program that opens no page
    visitors.bind("b", "page")  # whose connection never comes
    with visitors.request("page") as home:
        (home / "video.mp4").write_text("x")
    sweep_after(visitors, clock, 29 * 60)
    assert len(left(tmp_path)) == 2
    sweep_after(visitors, clock, 2 * 60)
    assert left(tmp_path) == []
    assert not visitors._visitors
    assert not visitors._sessions


def test_an_upload_stays_while_one_of_two_pages_is_open(visitors, clock, tmp_path):
    visitors.bind("a", "first")
    visitors.bind("a", "second")
    with visitors.connection("second"):
        with visitors.connection("first"):
            path = upload(visitors, "a")
        sweep_after(visitors, clock, GRACE + 1)
        assert path.exists()
        later = upload(visitors, "a")
    sweep_after(visitors, clock, GRACE + 1)
    assert not path.exists()
    assert not later.exists()
    assert left(tmp_path) == []


def test_files_of_a_running_request_are_deleted_when_it_has_ended(visitors, clock):
    visitors.bind("a", "page")
    with visitors.connection("page"):
        pass
    with visitors.request("page") as home:
        with pytest.raises(GenerationError, match="makes a video already"), visitors.request("page"):
            pass
        sweep_after(visitors, clock, GRACE + 1)
        assert visitors.closed == ["page"]
        assert home.exists()
    sweep_after(visitors, clock, 0)
    assert not home.exists()


def test_folders_that_nobody_owns_are_removed(visitors, tmp_path):
    (tmp_path / "visitors" / "left" / "uploads").mkdir(parents=True)
    visitors.sweep()
    assert left(tmp_path) == []


def test_uploads_have_totals(visitors):
    upload(visitors, "a", content=bytes(600_000))
    visitors.take("a", 300_000)
    with pytest.raises(GenerationError, match="more than 1 MB"):
        visitors.take("a", 200_000)
    visitors.take("b", 500_000)
    with pytest.raises(GenerationError, match="no room for more uploads"):
        visitors.take("b", 200_000)
    visitors.give_back("a", 300_000)
    visitors.take("b", 200_000)
    upload(visitors, "a")
    upload(visitors, "a")
    with pytest.raises(GenerationError, match="3 uploads"):
        visitors.new_file("a", "x")
