"""The built documentation as a browser sees it: what each page has, links to, and loads."""

import dataclasses
import functools
import html.parser
import pathlib
import re
import subprocess
import sys
import urllib.parse

from tests.conftest import ROOT


def build(folder: pathlib.Path) -> None:
    """Build the documentation; a warning is an error, and what was built in the folder before is used again."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


class _Reader(html.parser.HTMLParser):
    """Collects what a page names itself, links to, and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        is_loaded_link = tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload")
        self.loaded += [given["href"]] if is_loaded_link else []
        self.loaded += [given[name] for name in ("src", "srcset", "poster", "data") if name in given]


@dataclasses.dataclass(frozen=True)
class Page:
    """One page of the site; ``name`` is its path within it."""

    site: pathlib.Path
    name: str

    @functools.cached_property
    def text(self) -> str:
        return (self.site / self.name).read_text("utf-8")

    @functools.cached_property
    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.text)
        return reader

    @property
    def names(self) -> set[str]:
        """What a fragment of an address may name."""
        return self._read.names

    @property
    def links(self) -> list[str]:
        return self._read.links

    @property
    def loaded(self) -> list[str]:
        """What a browser loads with the page: style sheets, scripts, pictures."""
        return self._read.loaded

    def path_of(self, address: str) -> pathlib.Path:
        """The file that a relative address means."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(address).path)
        return (self.site / self.name).parent / name if name else self.site / self.name

    def weight(self) -> int:
        """Bytes that a browser loads for the page, uncompressed, with nothing in its cache."""
        files = {self.path_of(each).resolve() for each in self.loaded}
        return len(self.text.encode()) + sum(file.stat().st_size for file in files)


def pages(site: pathlib.Path) -> dict[str, Page]:
    """All pages by their names."""
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    return {name: Page(site, name) for name in names}


_ELSEWHERE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)


def is_elsewhere(address: str) -> bool:
    """Whether an address is one of another site."""
    return _ELSEWHERE.match(address) is not None


def broken_links(found: dict[str, Page]) -> list[str]:
    """Links within the site that lead nowhere, each with its page."""
    by_path = {(page.site / name).resolve(): page for name, page in found.items()}
    broken = []
    for name, page in found.items():
        for link in page.links:
            if is_elsewhere(link) or link.startswith(("mailto:", "javascript:")):
                continue
            path = page.path_of(link).resolve()
            fragment = urllib.parse.unquote(urllib.parse.urlsplit(link).fragment)
            there = by_path.get(path)
            if not path.exists() or (fragment and there is not None and fragment not in there.names):
                broken.append(f"{name}: {link}")
    return broken
