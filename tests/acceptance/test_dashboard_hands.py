"""What the page lets one do without a mouse, without storage, on any screen; and take away."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.settings import load_settings
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.events import StatusChanged
from tests.acceptance.test_dashboard import FREE, a_birth, write_story
from tests.support.browser import TIMEOUT, browser, settled, table_settled, until, visit
from tests.support.events import CREATED, queued, rejected
from tests.support.service import SEARCH, Running, running
from tests.support.standings import Story

expect.set_options(timeout=TIMEOUT)
FORBIDDEN = """() => {
  for (const name of ['localStorage', 'sessionStorage']) {
    Object.defineProperty(window, name, { get() { throw new DOMException('', 'SecurityError'); } });
  }
}"""
RANDOM = ("random001", "random002")


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up search, and two pinned ones that draw at random alone."""
    folder = tmp_path_factory.mktemp("hands")
    store = SqlStore(f"{folder}/store.db")
    write_story(store)
    evolution = CREATED.config.evolution.model_copy(update={"random_share": 1.0})
    config = CREATED.config.model_copy(update={"evolution": evolution})
    for seed, name in enumerate(RANDOM):
        story = Story(store, name, seed, created=CREATED.model_copy(update={"config": config}))
        story.baselines()
        story.many(40)
        story.flush()
        ServiceWrites(store).annotate(name, pinned=True)
    store.close()
    return folder


@pytest.fixture(scope="module")
def service(filled: Path) -> Iterator[Running]:
    with running(filled, helper_seconds=120, **FREE) as made:
        yield made


def test_the_page_comes_up_where_nothing_may_be_stored(service: Running, chrome: Browser) -> None:
    with visit(chrome) as seen:
        page = seen.page
        page.add_init_script(f"({FORBIDDEN})()")
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        expect(page.locator(".verdict-card .headline")).to_be_visible()
        before = page.locator("html").get_attribute("data-theme")
        for _ in range(2):
            page.get_by_role("button", name=re.compile("^Colours")).click()
        expect(page.locator("html")).to_have_attribute("data-theme", str(before))
        page.locator(".t-row .beside").first.click()
        expect(page.locator(".tray")).to_be_visible()
        page.goto(f"{service.url}/search/{SEARCH}/candidate/{a_birth(service)}")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".toast")).to_be_visible()
        seen.assert_quiet()


def test_points_are_reached_by_keys(service: Running, chrome: Browser) -> None:
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        field = page.locator(".field-layer")
        until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('field-layer')"):
                break
        expect(field).to_be_focused()
        page.keyboard.press("ArrowRight")
        tip = page.locator("body > .tip:not([hidden])")
        leader = a_birth(service)
        said = page.locator(".plot-wrap [role=status]")
        expect(said).to_contain_text(re.compile(r"candidate \d+"))
        seen_births = set()
        for key in ("ArrowUp", "Home", "ArrowRight", "ArrowRight", "End", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
            expect(tip).to_be_visible()
            expect(page.locator(".point-ring")).to_be_visible()
            seen_births.add(said.inner_text().split()[1].strip(","))
        assert len(seen_births) > 3
        page.mouse.move(5, 5)
        field.blur()
        field.focus()
        page.keyboard.press("ArrowUp")  # begins at the highest
        highest = said.inner_text().split()[1].strip(",")
        assert int(highest) == leader
        page.keyboard.press("c")
        expect(page.locator(".tray")).to_contain_text(highest)
        page.keyboard.press("Space")
        expect(page).to_have_url(re.compile(rf"c={highest}\b"))
        expect(page.locator(".drawer")).to_be_visible()
        page.keyboard.press("Escape")
        field.focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/candidate/"))
        seen.assert_quiet()


def test_a_large_screen_is_used(service: Running, chrome: Browser) -> None:
    two = f"search={SEARCH}&search={RANDOM[0]}"
    with visit(chrome, viewport={"width": 3840, "height": 2160}) as seen:
        page = seen.page
        for address in ("/", f"/search/{SEARCH}", "/layer", "/new", f"/compare?{two}"):
            page.goto(service.url + address)
            expect(page.locator("main .page")).to_be_visible()
            if address.startswith("/search"):
                table_settled(page)
                charts = page.locator(".chart .plot").evaluate_all(
                    "all => all.map(one => one.getBoundingClientRect())"
                    ".map(r => [r.width, r.bottom])"
                )
                assert min(width for width, _ in charts) > 500
                assert max(bottom for _, bottom in charts) < 2160, "all charts are seen at once"
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            wide = "document.querySelector('main .page')?.getBoundingClientRect().width > 1400"
            until(page, f"() => {wide}")
        seen.assert_quiet()


def test_it_reconnects_by_itself(tmp_path: Path, chrome: Browser) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = write_story(store)
    options = {"db": f"sqlite:///{tmp_path}/store.db", "poll_seconds": 0.05} | FREE
    first = Running(load_settings(options | {"port": 0}))
    first.start()
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{first.url}/search/{SEARCH}?sort=-birth")
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        table_settled(page)
        first.stop()
        expect(page.locator(".banner")).to_contain_text("No connection to the service")
        story.many(7)
        story.flush()
        second = Running(load_settings(options | {"port": first.port}))
        second.start()
        try:
            expect(page.locator(".banner")).to_have_count(0)  # nobody clicked
            expect(page.locator("#link-state .dot.live")).to_be_visible()
            expect(page.locator(".new-chip")).to_have_text("7 new")  # what came meanwhile
            expect(page.locator("[data-cell=evaluated] strong")).to_have_text("160")
        finally:
            second.stop()
    store.close()


def saved(page: Page, button: Locator, form: str) -> bytes:
    """The file that a chart's menu gives."""
    button.click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=form).click()
    path = download.value.path()
    assert download.value.suggested_filename.endswith(f".{form.split()[0].lower()}")
    return Path(path).read_bytes()


def assert_saves(page: Page, button: Locator, words: str) -> None:
    """The chart comes as a picture, as a drawing that holds those words, and as a table."""
    button.scroll_into_view_if_needed()
    picture = saved(page, button, "PNG")
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture) > 1500
    drawing = ElementTree.fromstring(saved(page, button, "SVG"))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert words in "".join(drawing.itertext())
    assert not [one for one in drawing.iter() if "var(" in one.get("style", "")]
    table = list(csv.reader(io.StringIO(saved(page, button, "CSV").decode())))
    assert len(table) > 1
    assert {len(row) for row in table[1:]} <= {len(table[0]), len(table[0]) - 3}


CHARTS = {
    "": {"Verdict": "resnet", "Gain against cost": "BN-ReLU", "Progress": "mean",
         "Funnel": "proposed", "Throughput": "busy"},
    "?tab=simplest": {"Details": "gain over"},
    "?tab=primitives": {"Details": "tanh"},
    "?tab=lineage": {"Details": "mutation"},
    "?tab=population": {"Age against score": "age"},
    "/candidate/BIRTH": {"Graph": "tanh", "Gain over the better": "mean",
                         "Response curves": "output"},
}  # fmt: skip


def test_each_chart_is_taken_away(service: Running, chrome: Browser) -> None:
    birth = str(a_birth(service))
    with visit(chrome, accept_downloads=True) as seen:
        page = seen.page
        for where, charts in CHARTS.items():
            page.goto(f"{service.url}/search/{SEARCH}{where.replace('BIRTH', birth)}")
            settled(page)
            for card, words in charts.items():
                place = page.get_by_role("region", name=card).first
                assert_saves(page, place.locator(".save-chart").first, words)
        seen.assert_quiet()


def test_random_search_is_a_band_and_lineage_says_what_was_done(
    service: Running, chrome: Browser
) -> None:
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?tab=lineage")
        settled(page)
        card = page.get_by_role("region", name="Progress")
        expect(card).to_contain_text("random search, 2: lowest to highest")
        band = card.locator(".plot").evaluate(
            "plot => plot.data.filter(one => one.name?.startsWith('random search'))"
            ".map(one => [...one.y])"
        )
        low, high = band
        assert len(low) == len(high) > 2
        assert all(a <= b for a, b in zip(low, high, strict=True))
        assert low != high
        expect(card).to_contain_text("highest, one seed")
        panel = page.locator(".tab-panel")
        expect(panel.locator(".mutation").first).to_contain_text("mutation")
        panel.get_by_role("button", name="Whole front").click()
        expect(panel.locator(".kin.root").first).to_be_visible()
        seen.assert_quiet()


def test_a_search_that_only_rejects_is_seen_to(tmp_path: Path, chrome: Browser) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = Story(store, SEARCH)
    story.baselines()
    story.many(30)
    story.flush()
    story.store.append(story.lease, [StatusChanged(status="running")])
    with running(tmp_path, **FREE) as service, visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        cell = page.locator("[data-cell=last]")
        expect(cell).to_contain_text("last evaluated")
        expect(cell).not_to_contain_text("outcomes")
        for _ in range(8):
            births = range(story.birth + 1, story.birth + 6)
            story.birth += 5
            store.append(story.lease, [one for b in births for one in (queued(b), rejected(b))])
            page.wait_for_timeout(1000)
        expect(cell.locator("dd.warn")).to_contain_text("outcomes still come")
        seen.assert_quiet()
    store.close()


def test_a_star_is_given_by_hand_and_by_keys(service: Running, chrome: Browser) -> None:
    """It is kept by the service, filtered by, and shown again where the page is opened anew."""
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        store = service.app.service.store
        stars = page.locator(".t-row .favourite")
        birth = int(str(stars.first.get_attribute("data-star")))
        stars.first.click()
        expect(stars.first).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".drawer")).not_to_be_visible()
        page.locator(".t-scroll").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        second = page.locator(f'[data-star]:not([data-star="{birth}"])').first
        expect(second).to_be_focused()
        other = int(str(second.get_attribute("data-star")))
        page.keyboard.press("Space")
        expect(second).to_have_attribute("aria-pressed", "true")
        expect(second).to_be_focused()
        assert store.stars(SEARCH) == sorted([birth, other])
        page.locator("#starred").click()
        expect(page.locator(".t-body .t-row")).to_have_count(2)
        expect(page.locator("#starred")).to_have_attribute("aria-pressed", "true")
        page.reload()
        table_settled(page)
        expect(page.locator(".t-body .t-row")).to_have_count(2)
        page.locator(".t-scroll").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("s")
        expect(stars.first).to_have_attribute("aria-pressed", "false")
        page.locator("#starred").click()
        expect(page.locator(".t-row .favourite.on")).to_have_count(1)
        assert len(store.stars(SEARCH)) == 1
        seen.assert_quiet()
