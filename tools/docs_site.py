"""MkDocs hook: pages and files of the repository that lie outside docs/ become part of the site.

Every Markdown page keeps links that work on GitHub. README.md is the site's first page. What a page links to outside
docs/ is added under its path in the repository: Markdown as a page, everything else as a file to download. Links are
rewritten to where their targets are in the site; MkDocs warns about those that have no target.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
HOME = "README.md"
# Code is matched first, and so its brackets are no links.
LINK = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`"
    r"|(?P<before>\]\(|\b(?:src|href|srcset|poster)=\")(?P<target>[^)\"\s#]+)",
    re.MULTILINE | re.DOTALL,
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Appends the pages of docs/ that the navigation does not name to its last section."""
    if config.nav:
        docs, named = Path(config.docs_dir), _pages_of(config.nav)
        pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
        (section,) = config.nav[-1].values()
        section += [page for page in pages if page not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README.md, the pages that the navigation names, and every file that a page of the site links to."""
    named = [repository_path(page) for page in _pages_of(config.nav)]
    waiting = [HOME, *(path for path in named if (ROOT / path).is_file())]
    for file in list(files):
        waiting += _linked(repository_path(file.src_uri))
    while waiting:
        path = waiting.pop()
        page = site_path(path)
        if files.get_file_from_path(page) is None:
            level = InclusionLevel.INCLUDED if path in named or path == HOME else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, page, abs_src_path=str(ROOT / path), inclusion=level))
            waiting += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points the links of a page to where their targets are in the site."""
    origin, folder = repository_path(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def in_site(found: re.Match[str]) -> str:
        target = _target(origin, found["target"])
        if target is None:
            return found[0]
        return f"{found['before']}{posixpath.relpath(site_path(target), folder or '.')}"

    return LINK.sub(in_site, markdown)


def site_path(path: str) -> str:
    """Path in the repository -> path in the site: a folder's README.md is a page with the folder's name."""
    if path == HOME:
        return "index.md"
    return re.sub(r"/README\.md$", ".md", path.removeprefix("docs/"))


def repository_path(page: str) -> str:
    """Path in the site -> path in the repository."""
    if page == "index.md":
        return HOME
    places = (f"docs/{page}", page, f"{page.removesuffix('.md')}/README.md")
    return next((path for path in places if (ROOT / path).is_file()), page)


def _linked(path: str) -> list[str]:
    """The files that a page links to, by their paths in the repository."""
    if not path.endswith(".md") or not (ROOT / path).is_file():
        return []
    text = (ROOT / path).read_text(encoding="utf-8")
    targets = (_target(path, found["target"]) for found in LINK.finditer(text))
    return [target for target in targets if target is not None]


def _target(origin: str, link: str | None) -> str | None:
    """The file in the repository that a link of a page leads to; None for anything else."""
    if link is None or ":" in link or link.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if (ROOT / path).is_dir():
        path = posixpath.join(path, "README.md")
    return path if (ROOT / path).is_file() and not path.startswith("..") else None


def _pages_of(nav: object) -> list[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ()
    return [path for child in children for path in _pages_of(child)]
