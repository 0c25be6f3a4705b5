"""The report of a search, in a browser: what it says, and that it prints whole on white paper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from db.sql_store import SqlStore
from tests.acceptance.test_dashboard import FREE, write_story
from tests.support.browser import TIMEOUT, browser, settled, visit
from tests.support.events import CREATED
from tests.support.service import SEARCH, Running, running

expect.set_options(timeout=TIMEOUT)
A4 = {"width": 794, "height": 1123}
MARKS = """() => [...document.querySelectorAll('.report-page .annotation-text')]
    .map((one) => one.textContent)"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("report")
    store = SqlStore(f"{folder}/store.db")
    write_story(store)
    store.close()
    with running(folder, **FREE) as made:
        yield made


def test_the_report_says_what_was_found_and_how_to_repeat_it(
    service: Running, chrome: Browser
) -> None:
    base = f"{service.url}/api/v1/searches/{SEARCH}"
    with visit(chrome, color_scheme="dark") as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        page.locator("#report").click()
        expect(page.locator(".report-page h1")).to_have_text("made up")
        settled(page)
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        verdict = page.request.get(f"{base}/verdict").json()
        gain = verdict["leader"]["gain"]["value"]
        expect(page.locator(".verdict-card .headline strong")).to_contain_text(f"{100 * gain:+.1f}")
        front = page.request.get(f"{base}/front").json()["candidates"]
        table = page.get_by_role("region", name="Pareto front").locator("tbody tr")
        expect(table).to_have_count(len(front))
        expect(page.locator(".funnel-row")).not_to_have_count(0)
        assert "paused" in page.evaluate(MARKS)  # the mark of what was done to the search
        origin = page.get_by_role("region", name="Reproducibility")
        expect(origin).to_contain_text(f"search show {SEARCH} --config")
        for name, version in CREATED.versions.items():
            expect(origin.locator("dt", has_text=name)).to_be_visible()
            expect(origin).to_contain_text(version)
        assert json.dumps(CREATED.config.seed) in origin.inner_text()
        expect(page.get_by_role("region", name="Config")).to_contain_text("[task]")
        seen.assert_quiet()
        page.get_by_role("link", name="Back to the search").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_it_prints_whole(service: Running, chrome: Browser) -> None:
    with visit(chrome, viewport=A4) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}/report")
        settled(page)
        page.emulate_media(media="print")
        expect(page.locator(".app-bar")).to_be_hidden()
        expect(page.locator("#print")).to_be_hidden()
        cut = page.evaluate(
            """() => [...document.querySelectorAll('.report-page .card, .code-box, .plain-table')]
                .filter((one) => one.scrollWidth > one.clientWidth + 1
                    || one.scrollHeight > one.clientHeight + 1)
                .map((one) => one.className + ' ' + (one.ariaLabel ?? ''))"""
        )
        assert cut == []
        assert len(page.pdf(format="A4")) > 10_000
