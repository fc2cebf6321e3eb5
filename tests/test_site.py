"""The documentation as a site: it builds strictly and without network, and its pages are whole and ask for nothing."""

import functools
import http.server
import importlib
import inspect
import re
import shutil
import socket
import threading
from html.parser import HTMLParser
from pathlib import Path

import griffe
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import MkDocsException

import callbacks
from tests.helpers import ROOT

CONFIG = ROOT / "mkdocs.yml"
TARGETS = [
    target
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for target in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
PACKAGES = ("datamodules", "diffusion", "encoders", "generation", "media", "metrics")
# Raw Markdown in a paragraph: a list, table or fence that only GitHub recognises.
RAW = re.compile(r"<p>(?:[^<]|<(?!/p>))*?^(?:[-*] |\d+\. |\||```|#+ )", re.MULTILINE)


class Addresses(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        wanted = {"link": ("href",), "script": ("src",), "img": ("src", "srcset"), "video": ("src", "poster")}
        self.found += [named[name] for name in wanted.get(tag, ("src", "srcset")) if named.get(name)]


def write_site(folder: Path, **changes) -> Path:
    build(load_config(str(CONFIG), strict=True, site_dir=str(folder), **changes))
    return folder


@pytest.fixture(scope="module")
def site(once) -> Path:
    """The site, built while no connection can be opened."""

    def refuse(*_):
        raise AssertionError("the build of the documentation opened a connection")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return once("site", write_site)


@pytest.mark.slow
def test_it_builds_strictly_without_network(site):
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "examples.html", "CHANGELOG.html", "CONTRIBUTING.html", "SECURITY.html"} <= pages
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert sources <= pages
    first = (site / "index.html").read_text(encoding="utf-8")
    reached = set(re.findall(r'<a href="([^"#]+)" class="md-nav__link', first))
    assert sources <= reached  # each page is in the navigation


@pytest.mark.slow
def test_a_new_page_gets_into_the_navigation(tmp_path):
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.rmtree(docs / "api")
    (docs / "a_new_page.md").write_text("# A new page\n\nText.\n", encoding="utf-8")
    nav = [{"Overview": "index.md"}, {"Use": ["data.md"]}]
    site = write_site(tmp_path / "site", docs_dir=str(docs), nav=nav)
    assert 'href="a_new_page.html"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_first_page_is_the_readme_with_links_into_the_site(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="data.html"' in first
    assert 'href="CONTRIBUTING.html"' in first
    assert 'href="Dockerfile"' in first
    assert not [link for link in re.findall(r'(?:href|src)="([^"]+)"', first) if link.startswith("docs/")]
    assert (site / "Dockerfile").read_bytes() == (ROOT / "Dockerfile").read_bytes()


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        elsewhere = [address for address in Addresses(page).found if re.match(r"(\w+:)?//", address)]
        assert not elsewhere, page.name
    style = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"@import|url\(['\"]?(?:https?:)?//[^)]*\)", style)


@pytest.mark.slow
def test_no_markdown_is_left_in_a_paragraph(site):
    for page in site.rglob("*.html"):
        raw = RAW.search(page.read_text(encoding="utf-8"))
        assert raw is None, f"{page.name}: {raw and raw[0][-200:]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        {"[a page](nowhere.md)": "nowhere.md", "[a heading](data.md#nowhere)": "#nowhere"},
        {"[a file](../Dockerfil)": "Dockerfil"},
        {"::: metrics.fid.NoSuchMetric": "metrics.fid.NoSuchMetric"},
    ],
    ids=["links", "file", "target"],
)
def test_a_broken_link_or_target_fails(tmp_path, caplog, broken):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("data.md", "site.css"):  # the rest is added as pages link to it
        shutil.copy(ROOT / "docs" / name, docs)
    (docs / "more.md").write_text("\n\n".join(["# More", *broken, ""]), encoding="utf-8")
    with pytest.raises(MkDocsException):
        write_site(tmp_path / "site", docs_dir=str(docs), nav=None)
    assert {message for message in broken.values() if message not in caplog.text} == set()


read = functools.cache(functools.partial(griffe.load, search_paths=(str(ROOT),), allow_inspection=False))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_docstring_of_its_own(target):
    module, _, name = target.rpartition(".")
    found = read(module)[name]
    assert found.docstring is not None
    assert len(found.docstring.value.split()) >= 3


def test_the_reference_names_every_public_entry_point():
    public = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        found = (getattr(module, name) for name in module.__all__)
        public |= {f"{one.__module__}.{one.__name__}" for one in found if inspect.isclass(one) or callable(one)}
    for file in Path(callbacks.__path__[0]).glob("*.py"):
        for line in re.findall(r"^class (\w+)\((?:\w*Callback|Checkpoint|Logger)\)", file.read_text(), re.MULTILINE):
            public.add(f"callbacks.{file.stem}.{line}")
    assert len(public) > 30
    assert public - set(TARGETS) == set()


@pytest.mark.slow
def test_it_reads_well_on_a_phone_and_asks_for_nothing_from_elsewhere(site, browser):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        page = browser.new_page(viewport={"width": 390, "height": 800})
        asked, failed = set(), []
        page.on("request", lambda request: asked.add(request.url))
        page.on("response", lambda response: response.status < 400 or failed.append(response.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        for path in sorted(site.rglob("*.html")):
            name = path.relative_to(site).as_posix()
            page.goto(home + name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{name} is wider than a phone"
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(home)
        page.get_by_placeholder("Search").press_sequentially("Sync-C")  # the search reads its box at each key
        page.locator(".md-search-result__link").first.wait_for()
        server.shutdown()
    assert {url for url in asked if not url.startswith((home, "data:", "blob:"))} == set()
    assert failed == []
