"""The dashboard's files as they are served: addresses, caching, policy, and what they may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests.support.service import Running, running

STATIC = Path(__file__).resolve().parents[2] / "api" / "dashboard" / "static"
SCRIPTS = sorted(STATIC.rglob("*.js"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    with running(folder, rate_per_minute=10**6, require_token=True) as made:
        yield made


class Parts(HTMLParser):
    """Addresses that the page loads, and text that stands in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._script = tag in ("script", "style")
        self.addresses += [str(known[key]) for key in ("src", "href") if key in known]
        self.inline += [key for key in known if key.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


def parts_of(service: Running) -> Parts:
    return Parts(httpx.get(service.url).text)


@pytest.mark.parametrize("path", ["/", "/new", "/search/k3f", "/search/k3f/candidate/7", "/layer"])
def test_the_page_stands_at_each_of_its_addresses(service: Running, path: str) -> None:
    answer = httpx.get(service.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"
    assert "script-src 'self';" in answer.headers["content-security-policy"]


def test_what_the_page_loads_is_there_and_kept_for_good(service: Running) -> None:
    parts = parts_of(service)
    assert parts.inline == []  # the policy forbids it
    assert any(address.endswith("js/main.js") for address in parts.addresses)
    for address in parts.addresses:
        answer = httpx.get(service.url + address)
        assert answer.status_code == 200, address
        if "/assets/" in address:
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers.get("content-encoding") == "gzip" or len(answer.content) < 1001


def test_a_file_of_an_older_page_is_gone(service: Running) -> None:
    answer = httpx.get(f"{service.url}/assets/0123456789abcdef/js/main.js")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "immutable" not in answer.headers["cache-control"]


def test_plotly_comes_from_the_installed_package(service: Running) -> None:
    version = re.search(r'data-plotly="([0-9.]+)"', httpx.get(service.url).text)
    assert version is not None
    answer = httpx.get(f"{service.url}/assets/plotly-{version[1]}.min.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert b"plotly.js" in answer.content[:60]


def test_addresses_carry_the_prefix(tmp_path: Path) -> None:
    with running(tmp_path, root_path="/evo") as service:
        parts = parts_of(service)
        assert parts.addresses
        assert all(address.startswith("/evo/") for address in parts.addresses)
        assert httpx.get(service.url + parts.addresses[-1].removeprefix("/evo")).is_success


def test_imports_lead_to_files() -> None:
    wanted = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")
    found = [(path, name) for path in SCRIPTS for name in wanted.findall(path.read_text())]
    assert len(found) > 40
    assert [(path.name, name) for path, name in found if not (path.parent / name).is_file()] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_what_the_policy_and_the_house_allow(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    risky = r"\beval\(|new Function|innerHTML|document\.write|insertAdjacentHTML"
    assert not re.search(risky, text)
    elsewhere = re.sub(r"http://www\.w3\.org/[\w/]+", "", text)
    assert "http://" not in elsewhere
    assert "https://" not in elsewhere


SENTENCE = re.compile(r"""["`][^"`\n]*\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b[^"`\n]*["`]""")


def sentences(script: str) -> list[str]:
    """What reads like words for people, comments and names of classes left out."""
    code = re.sub(r"/\*.*?\*/|^\s*//[^\n]*$", "", script, flags=re.DOTALL | re.MULTILINE)
    code = re.sub(r"class: (\[[^\]]*\]|\"[^\"]*\")", "", code)
    return SENTENCE.findall(code)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_words_for_people_stand_in_one_file(path: Path) -> None:
    if path.name == "strings.js":
        assert len(sentences(path.read_text(encoding="utf-8"))) > 100
    else:
        assert sentences(path.read_text(encoding="utf-8")) == []


def test_a_sentence_elsewhere_is_found() -> None:
    assert sentences('h("p", {}, "There is no such thing"); // a comment of many words')
    assert sentences('// a comment of many words\nh("p", {}, "There is no such thing");')
    assert not sentences('h("p", { class: "one two three four" }, T.noPage)')


def test_the_page_says_what_it_needs_where_no_script_runs(service: Running) -> None:
    text = httpx.get(service.url).text
    assert "<noscript>evosearch's dashboard needs JavaScript; " in text
    assert 'name="description" content="Watch normalization-activation layers evolve"' in text
    assert "{{" not in text
