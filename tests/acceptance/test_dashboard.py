"""The dashboard in a real browser, over a real service: what a person sees, clicks and reads."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from api.settings import load_settings
from db.controllers import Controllers
from db.sql_store import SqlStore
from db.tokens import Tokens
from tests.support.browser import (
    LOOKS,
    TIMEOUT,
    axe_source,
    browser,
    controller,
    settled,
    table_settled,
    until,
    visit,
)
from tests.support.service import OFFERS, SEARCH, Running, running
from tests.support.standings import Story

expect.set_options(timeout=TIMEOUT)
FREE = {"rate_per_minute": 10**6, "rate_burst": 10**6}
PAGES = {
    "searches": "/", "new": "/new", "search": f"/search/{SEARCH}",
    "drawer": f"/search/{SEARCH}?c=BIRTH&tab=simplest",
    "candidate": f"/search/{SEARCH}/candidate/BIRTH",
    "report": f"/search/{SEARCH}/report",
}  # fmt: skip
"""Compare and Try a layer are looked at beside what they do, in test_dashboard_layers."""
COUNT = "document.querySelector('[data-cell=evaluated] strong').textContent"
FIRST = "document.querySelector('.t-body .t-row')?.querySelector('.mono').textContent"
POLICY = (
    "script-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:",
    "default-src 'none'",
)  # fmt: skip


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds a made-up search."""
    folder = tmp_path_factory.mktemp("filled")
    store = SqlStore(f"{folder}/store.db")
    write_story(store)
    store.close()
    return folder


def write_story(store: SqlStore, story: Story | None = None) -> Story:
    """Baselines, candidates of all fates, a leader with fresh seeds; the search is paused."""
    Controllers(store).register("filler", "here", 1, "inline", OFFERS)
    Controllers(store).leave("filler")
    story = story or Story(store, SEARCH)
    story.baselines()
    story.many(150)
    parent = story.candidate([0.62, 0.60, 0.53])
    leader = story.candidate([0.70, 0.64, 0.60], (parent,))
    story.candidate([0.66, 0.68, 0.58], (leader,))
    story.repeated(leader)
    story.others(40)
    story.confirm(leader, [[0.69, 0.70, 0.68], [0.66, 0.65, 0.64], [0.61, 0.60, 0.62]])
    story.flush()
    return story


@pytest.fixture(scope="module")
def service(filled: Path) -> Iterator[Running]:
    with running(filled, **FREE) as made:
        yield made


def evaluated(page: Page) -> int:
    """Evaluated candidates, as the header says."""
    cell = page.locator("[data-cell=evaluated] strong")
    expect(cell).to_have_text(re.compile("^[0-9,]+$"))
    text = cell.inner_text()
    return int(text.replace(",", ""))


def rows(page: Page) -> list[int]:
    """Births of the table's rows that are elements now, in order."""
    cells = page.locator(".t-body .t-row").evaluate_all(
        "all => all.map(one => [one.offsetTop, one.querySelector('.mono').textContent])"
    )
    return [int(text) for _, text in sorted((top, text) for top, text in cells)]


def a_birth(service: Running) -> int:
    """The candidate that leads the made-up search."""
    rest = service.app.service
    with rest.ledgers.of(rest.store.search(SEARCH)) as ledger:
        return int(ledger.leader().birth)


def test_the_story_from_an_empty_database(tmp_path: Path, chrome: Browser) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    Controllers(store).register("filler", "here", 1, "inline", OFFERS)
    Controllers(store).leave("filler")
    store.close()
    with ExitStack() as open_now:
        service = open_now.enter_context(running(tmp_path, **FREE, helper_seconds=120))
        seen = open_now.enter_context(visit(chrome, accept_downloads=True))
        page = seen.page
        page.goto(service.url)
        page.locator(".first-search").click()
        expect(page).to_have_url(re.compile("/new$"))
        page.locator('[data-key="budget.evaluations"] input').fill("4000")
        page.locator(".all-settings summary").click()
        page.locator('[data-key="evolution.choose_of"] input').fill("1")
        page.get_by_label("Title").fill("the story")
        expect(page.locator(".estimate")).to_contain_text("4,000")
        page.locator("#start").click()
        expect(page).to_have_url(re.compile("/search/[a-z0-9]{8}$"))
        expect(page.locator(".verdict-card")).to_contain_text("Nothing is evaluated yet")
        open_now.enter_context(controller(tmp_path, 0.25))
        expect(page.locator(".verdict-card .headline")).to_be_visible()
        expect(page.locator(".t-body .t-row").first).to_be_visible()
        before = evaluated(page)
        until(page, f"() => Number({COUNT}) > {before}")
        page.locator("#pause").click()
        expect(page.locator(".header-state")).to_contain_text("paused")
        page.locator("#resume").click()
        expect(page.locator(".header-state")).to_contain_text("running")
        page.locator("#extend").click()
        page.get_by_label("Candidates to be evaluated").fill("5000")
        page.get_by_label("Hours that it runs").fill("7.5")
        page.locator("dialog [type=submit]").click()
        assert_limits(page)
        expect(page.locator("[data-cell=evaluated]")).to_contain_text("/ 5,000")
        assert_enqueued(page)
        assert_taken_home(page, tmp_path)
        page.locator("#stop").click()
        page.locator("dialog [type=submit]").click()
        expect(page.locator(".header-state")).to_contain_text("stopped")
        seen.assert_quiet()


def assert_limits(page: Page) -> None:
    """The limit of hours that was set is shown when the dialog is opened again, and is cleared."""
    hours = page.get_by_label("Hours that it runs")
    for value in ("7.5", ""):
        expect(page.locator("[data-cell=evaluated]")).to_contain_text("/ 5,000")
        path = "'/api/v1' + location.pathname.replace('/search/', '/searches/')"
        until(page, f"""async () => {{ const told = await (await fetch({path})).json();
            return String(told.limits.hours ?? '') === '{value}'; }}""")  # fmt: skip
        page.reload()
        page.locator("#extend").click()
        expect(hours).to_have_value(value)
        page.get_by_label("Candidates to be evaluated").fill("5000")
        hours.fill("")
        page.locator("dialog [type=submit]").click()


def assert_enqueued(page: Page) -> None:
    """A formula typed on *Try a layer* goes into the search that runs, and arrives in its table."""
    search = page.url
    page.get_by_role("link", name="Try a layer").click()
    page.locator("#formula").fill("x * sigmoid(v1 * x)")
    expect(page.locator(".check-verdict")).to_be_visible()
    page.locator("#enqueue").click()
    page.locator("#into").select_option(label="the story")
    page.locator("#note").fill("by hand")
    page.locator("dialog [type=submit]").click()
    page.locator(".toast").get_by_role("button").click()
    expect(page).to_have_url(re.compile(re.escape(urlsplit(search).path)))
    page.get_by_label("State", exact=True).select_option("any")
    page.get_by_label("Filter, such as").fill("origin = 'enqueued'")
    arrived = page.locator(".t-body .t-row")
    until(
        page,
        """() => document.querySelectorAll('.t-body .t-row').length === 1
        && !document.querySelector('main [aria-busy=true]')""",
    )
    expect(arrived).to_contain_text("sigmoid")
    expect(arrived).to_contain_text("enqueued")
    page.get_by_label("Filter, such as").fill("")


def assert_taken_home(page: Page, folder: Path) -> None:
    """A row leads to its candidate's page, whose Python module imports and runs; and back."""
    page.get_by_label("State", exact=True).select_option("evaluated")
    table_settled(page)
    page.locator(".t-body .t-row code").first.dblclick(position={"x": 5, "y": 5})
    expect(page).to_have_url(re.compile("/search/[a-z0-9]{8}/candidate/[0-9]+$"))
    expect(page.locator("h1")).to_have_text(re.compile("^Candidate [0-9]+$"))
    page.get_by_role("radio", name="Python").click()
    with page.expect_download() as download:
        page.locator("#download").click()
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    assert target.stem.isidentifier()
    assert_layer_runs(target)
    page.get_by_role("link", name="the story").click()
    expect(page.locator(".header-state")).to_contain_text("running")


def assert_layer_runs(path: Path) -> None:
    """The downloaded file is a module whose layer keeps the shape of what it gets."""
    import torch

    spec = importlib.util.spec_from_file_location("downloaded", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layer = module.EvolvedLayer(8)
    assert layer(torch.randn(2, 8, 4, 4)).shape == (2, 8, 4, 4)


def test_a_lost_connection_is_said_and_mended(filled: Path, chrome: Browser) -> None:
    options = {"db": f"sqlite:///{filled}/store.db", "poll_seconds": 0.05} | FREE
    first = Running(load_settings(options | {"port": 0}))
    first.start()
    with visit(chrome) as seen:
        page = seen.page
        page.clock.install()
        page.goto(f"{first.url}/search/{SEARCH}")
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        table_settled(page)
        first.stop()
        expect(page.locator(".banner")).to_contain_text("No connection to the service")
        expect(page.locator(".t-body .t-row").first).to_be_visible()
        page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # no attempt of its own
        expect(page.locator(".banner")).to_contain_text("No connection to the service")
        second = Running(load_settings(options | {"port": first.port}))
        second.start()
        try:
            page.get_by_role("button", name="Try now").click()
            expect(page.locator(".banner")).to_have_count(0)
            expect(page.locator("#link-state .dot.live")).to_be_visible()
        finally:
            second.stop()


def test_what_goes_wrong_is_said_where_it_happened(service: Running, chrome: Browser) -> None:
    with visit(chrome) as seen:
        page = seen.page

        def refuse(route: Route) -> None:
            told = {"status": 503, "detail": "the store is away", "error_id": "e1"}
            route.fulfill(status=503, json=told)

        page.route("**/funnel/path", refuse)
        page.goto(f"{service.url}/search/{SEARCH}")
        card = page.get_by_role("region", name="Funnel")
        expect(card).to_contain_text("the store is away (error e1)")
        page.unroute("**/funnel/path")
        card.get_by_role("button", name="Try again").click()
        expect(card).to_contain_text("proposed")
        page.goto(f"{service.url}/search/zzzzzzzz")
        expect(page.locator("main")).to_contain_text("There is no such search")
        page.goto(f"{service.url}/new")
        steps = page.locator('[data-key="task.steps"]')
        steps.locator("input").fill("0")
        expect(steps).to_contain_text("at least 1")
        expect(page.locator("#start")).to_be_disabled()
        steps.locator("input").fill("20")  # fewer than the steps of the quality check
        expect(page.locator("form")).to_contain_text("checks.quality.steps is at most task.steps")
        expect(page.locator("#start")).to_be_disabled()
        page.locator(".all-settings summary").click()  # another field mends it
        page.locator('[data-key="checks.quality.steps"] input').fill("10")
        expect(page.locator("form")).not_to_contain_text("is at most task.steps")
        expect(page.locator(".estimate")).to_be_visible()
        expect(page.locator("#start")).to_be_enabled()
        page.locator('[data-key="space.where"] input').fill("pointwise and live_nodes > 60")
        expect(page.locator(".estimate")).to_contain_text("below 0.19 % (95 %)")
        expect(page.locator(".estimate")).to_contain_text("where pointwise")
        page.locator('[data-key="space.template"] input').fill("x * f(x) / g(x)")
        expect(page.locator(".estimate")).to_contain_text("layers of this form")
        expect(page.locator(".new-side")).to_contain_text("evolution.operators do not count")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible_and_fits(name: str, service: Running, chrome: Browser) -> None:
    source = axe_source()
    address = service.url + PAGES[name].replace("BIRTH", str(a_birth(service)))
    looks = [*LOOKS]
    if name == "search":
        looks += [(1440, "dark"), (400, "light")]
    with visit(chrome) as seen:
        page = seen.page
        for width, theme in looks:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.goto(address)
            seen_in = "light" if name == "report" else theme  # paper is white
            expect(page.locator("html")).to_have_attribute("data-theme", seen_in)
            (table_settled if name == "search" else settled)(page)
            beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert beyond <= 0, f"{name} at {width} px is {beyond} px too wide"
            assert seen.serious(source) == []
        seen.assert_quiet()


def test_a_token_opens_the_page_and_stays_out_of_urls(filled: Path, chrome: Browser) -> None:
    store = SqlStore(f"{filled}/store.db")
    token = Tokens(store).create("reader", "read")[1]
    store.close()
    asked: list[str] = []
    with running(filled, require_token=True, **FREE) as locked, visit(chrome) as seen:
        page = seen.page
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{locked.url}/search/{SEARCH}")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("this token opens nothing")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".t-body .t-row").first).to_be_visible()
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        assert not any(token in url for url in asked)


class Proxy:
    """What stands in front of a service: it takes a prefix off every path."""

    def __init__(self, app: Any, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(self._prefix + "/"), scope["path"]
            scope = scope | {"path": scope["path"].removeprefix(self._prefix)}
        await self._app(scope, receive, send)


def test_the_page_works_behind_a_prefix(filled: Path, chrome: Browser) -> None:
    prefix = "/evo/lab"
    options = {"db": f"sqlite:///{filled}/store.db", "port": 0, "root_path": prefix}
    service = Running(load_settings(options | FREE))
    service.server.config.app = Proxy(service.app, prefix)
    service.start()
    try:
        with visit(chrome) as seen:
            page = seen.page
            page.goto(f"{service.url}{prefix}/")
            page.locator(".search-title").click()
            expect(page).to_have_url(f"{service.url}{prefix}/search/{SEARCH}")
            expect(page.locator(".t-body .t-row").first).to_be_visible()
            expect(page.locator("#link-state .dot.live")).to_be_visible()
            seen.assert_quiet()
    finally:
        service.stop()


def test_points_are_drawn_by_webgl_under_the_strict_policy(
    service: Running, chrome: Browser
) -> None:
    with visit(chrome) as seen:
        answer = seen.page.goto(f"{service.url}/search/{SEARCH}")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert all(part in policy for part in POLICY)
        assert "unsafe-eval" not in policy
        canvas = seen.page.locator("canvas.point-layer[data-renderer=webgl]")
        expect(canvas).to_be_visible()
        until(
            seen.page,
            """() => {
            const canvas = document.querySelector('canvas.point-layer');
            const gl = canvas.getContext('webgl');
            const data = new Uint8Array(4 * canvas.width * canvas.height);
            gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, data);
            return data.some((one, i) => i % 4 === 3 && one > 0);
        }""",
        )
        seen.assert_quiet()


def test_a_brush_filters_and_stands_in_the_url(service: Running, chrome: Browser) -> None:
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
        everything = page.locator(".t-foot").inner_text()
        box = page.locator(".field-layer").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 3, steps=5)
        page.mouse.up()
        expect(page.locator(".filter-bar")).to_be_visible()
        expect(page).to_have_url(re.compile("brush="))
        expect(page.locator(".t-foot")).not_to_have_text(everything)
        settled(page)
        brush = parse_qs(urlsplit(page.url).query)["brush"][0]
        low, high = (float(one) for one in brush.rsplit(":", 1)[1].split(".."))
        scatter = page.request.get(f"{service.url}/api/v1/searches/{SEARCH}/scatter").json()
        gains = dict(zip(scatter["births"], scatter["y"], strict=True))
        shown = rows(page)
        assert shown
        assert all(low <= gains[birth] <= high for birth in shown)
        page.reload()
        expect(page.locator(".filter-bar")).to_be_visible()
        expect(page.locator(".t-foot")).not_to_have_text(everything)
        page.keyboard.press("Escape")
        expect(page.locator(".filter-bar")).to_be_hidden()
        expect(page).not_to_have_url(re.compile("brush="))
        seen.assert_quiet()


def test_the_table_is_in_order_and_only_as_long_as_the_screen(
    service: Running, chrome: Browser
) -> None:
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?state=any&sort=-birth")
        table_settled(page)
        first = rows(page)
        assert first == sorted(first, reverse=True)
        grid = page.get_by_role("grid")
        grid.focus()
        while 1 not in rows(page):  # each press loads a page of rows more
            page.keyboard.press("End")
            settled(page)
        assert page.locator(".t-body .t-row").count() < 80
        assert max(rows(page)) < max(first)
        page.keyboard.press("Home")
        expect(page.locator(".t-row:focus")).to_have_attribute("aria-rowindex", "2")
        page.keyboard.press("ArrowDown")
        expect(page.locator(".t-row:focus")).to_have_attribute("aria-rowindex", "3")
        page.keyboard.press("Space")
        expect(page.locator(".drawer")).to_be_visible()
        expect(page).to_have_url(re.compile(rf"c={first[1]}\b"))
        page.keyboard.press("Escape")
        expect(page.locator(".drawer")).to_be_hidden()
        seen.assert_quiet()


def test_the_first_order_is_by_the_lower_bound_of_the_gain(
    service: Running, chrome: Browser
) -> None:
    asked = f"{service.url}/api/v1/searches/{SEARCH}/candidates"
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        known = page.request.get(asked, params={"sort": "-gain_low", "limit": "12"}).json()
        lows = [one["gain"]["low"] for one in known["candidates"]]
        assert lows == sorted(lows, reverse=True)
        assert rows(page)[:12] == [one["birth"] for one in known["candidates"]]
        ahead = page.request.get(asked, params={"where": "gain_low > 0"}).json()["candidates"]
        assert 0 < len(ahead) < len(lows)
        page.get_by_label("Filter, such as").fill("gain_low > 0")
        expect(page.locator(".t-body .t-row")).to_have_count(len(ahead))
        assert sorted(rows(page)) == sorted(one["birth"] for one in ahead)
        page.get_by_label("Filter, such as").fill("gain_low >")
        expect(page.locator(".t-aside")).to_contain_text("a number")
        seen.complaints.clear()  # the refused request, as the browser reports it
        page.get_by_label("Filter, such as").fill("")
        expect(page.locator(".t-foot")).to_contain_text("153")
        seen.assert_quiet()


def test_news_wait_behind_a_chip(tmp_path: Path, chrome: Browser) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = write_story(store)
    with running(tmp_path, **FREE) as service, visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?sort=-birth")
        table_settled(page)
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        before = rows(page)
        story.many(20)
        story.flush()
        expect(page.locator(".new-chip")).to_have_text("20 new")
        assert rows(page) == before
        page.locator(".new-chip").click()
        expect(page.locator(".new-chip")).to_be_hidden()
        until(page, f"() => Number({FIRST}) > {max(before)}")
        seen.assert_quiet()
    store.close()
