"""A reader who goes away and comes back, clicks twice, and leaves a page before it is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from db.sql_store import SqlStore
from evosearch.events import JobLost, StatusChanged
from evosearch.records import Failure
from tests.acceptance.test_dashboard import FREE, rows, write_story
from tests.support.browser import (
    TIMEOUT,
    axe_source,
    browser,
    settled,
    table_settled,
    until,
    visit,
)
from tests.support.events import queued
from tests.support.service import SEARCH, Running, running
from tests.support.standings import Story

expect.set_options(timeout=TIMEOUT)
BEHIND = "behind01"
KEPT = f"evosearch.visit.{SEARCH}"
HOUR = 3_600_000


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Story]]:
    """A search that runs, and one that stopped without a winner."""
    folder: Path = tmp_path_factory.mktemp("reader")
    store = SqlStore(f"{folder}/store.db")
    story = write_story(store)
    story.write(StatusChanged(status="running"))
    story.flush()
    behind = Story(store, BEHIND)
    behind.baselines()
    behind.many(30)
    behind.write(StatusChanged(status="stopped"))
    behind.flush()
    with running(folder, helper_seconds=120, **FREE) as service:
        yield service, story
    store.close()


def hold(page: Page, asked: str) -> list[Route]:
    """The page's requests of that path from now on, which get no answer until they go on."""
    held: list[Route] = []
    page.route(f"**/api/v1/{asked}", lambda route: held.append(route))
    return held


def test_a_page_that_was_left_touches_nothing(made: tuple[Running, Story], chrome: Browser) -> None:
    service, _ = made
    places = {f"search/{SEARCH}": f"searches/{SEARCH}", "new": "presets",
              f"search/{SEARCH}/candidate/3": f"searches/{SEARCH}",
              f"search/{SEARCH}/report": f"searches/{SEARCH}"}  # fmt: skip
    with visit(chrome) as seen:
        page = seen.page
        for path, asked in places.items():
            held = hold(page, asked)
            page.goto(f"{service.url}/{path}")
            until(page, "() => document.querySelector('main [aria-busy=true]')")
            page.wait_for_timeout(200)
            assert held, path
            page.get_by_role("link", name="Compare").click()
            expect(page.locator("h1")).to_have_text("Compare")
            for one in held:
                one.continue_()
            page.unroute(f"**/api/v1/{asked}")
            settled(page)
            page.wait_for_timeout(600)
            expect(page.locator("h1")).to_have_text("Compare")
            expect(page.locator("main .choose-row")).to_have_count(2)
            expect(page.locator(".search-header, .candidate-page, .new-page")).to_have_count(0)
            assert page.title() == "Compare · evosearch"
            expect(page.locator("html")).to_have_attribute("data-theme", "light")
        seen.assert_quiet()


def kept(page: Page) -> dict[str, Any]:
    """What the browser keeps of the visits."""
    found: dict[str, Any] = json.loads(page.evaluate(f"localStorage.getItem('{KEPT}')"))
    return found


def test_a_night_away_is_told_in_the_morning(made: tuple[Running, Story], chrome: Browser) -> None:
    """The page stands open all night; nothing counts as a visit until the pointer moves."""
    service, story = made
    with visit(chrome) as seen:
        page = seen.page
        page.clock.install()
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        expect(page.locator(".since")).to_be_hidden()
        page.mouse.move(300, 300)
        before = kept(page)
        last = story.truth.last
        births = [story.candidate([0.30, 0.31, 0.29]), story.candidate([0.72, 0.20, 0.20])]
        story.birth += 1
        failure = Failure(cause="hung", detail="no message for 60 seconds")
        lost = JobLost(id=f"c{story.birth}", failure=failure, attempt=1, worker="w1")
        story.write(queued(story.birth), lost)
        story.others(3)
        story.flush()
        expect(page.locator(".new-chip")).to_have_text("2 new")  # what the table would show
        with page.expect_request(lambda one: "/compare?" in one.url):  # failures grow old, too
            page.clock.fast_forward(25_000)
        page.clock.fast_forward(8 * HOUR)
        page.wait_for_timeout(300)
        assert kept(page) == before
        expect(page.locator(".since")).to_be_hidden()
        page.mouse.move(320, 320)
        since = page.locator(".since")
        expect(since).to_contain_text("Since your last visit (8 h ago)")
        expect(since).to_contain_text(
            "2 evaluated candidates · 1 new on the front · 2 workers lost"
        )
        assert kept(page)["before"]["event"] == last
        page.clock.fast_forward(3 * 60_000)
        expect(since).to_contain_text("(8 h 3 min ago)")
        since.get_by_role("button", name="2 evaluated candidates").click()
        expect(page.locator(".t-foot")).to_have_text("2 rows")
        assert sorted(rows(page)) == births
        since.get_by_role("button", name="1 new on the front").click()
        expect(page.locator(".t-foot")).to_have_text("1 row")
        assert rows(page) == births[1:]
        since.get_by_role("button", name="2 workers lost").click()
        expect(page.locator(".event-row")).to_have_count(2)
        expect(page.locator(".event-row").last).to_contain_text("hung, attempt 1, w1")
        page.reload()
        expect(since).to_contain_text("2 evaluated candidates")
        seen.assert_quiet()


def test_what_a_filter_shows_is_counted_and_kept(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    """The chip of the table, and a rare event below hundreds of others."""
    service, story = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?where=mean_score%20%3E%200.4")
        table_settled(page)
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        before = story.birth
        story.many(12)
        story.others(2)
        story.flush()
        known = {b: s for b, s in story.truth.scores.items() if b > before}
        fitting = sum(sum(one) / 3 > 0.4 for one in known.values())
        assert 0 < fitting < 12
        expect(page.locator(".new-chip")).to_have_text(f"{fitting} new")
        page.goto(f"{service.url}/search/{SEARCH}?state=rejected")
        table_settled(page)
        expect(page.locator(".t-head [aria-sort]")).to_contain_text("id ↓")
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        story.others(4)
        story.flush()
        expect(page.locator(".new-chip")).to_have_text("4 new")
        page.goto(f"{service.url}/search/{SEARCH}?tab=events&kind=failures")
        expect(page.locator(".event-row").first).to_be_visible()
        expect(page.locator("#link-state .dot.live")).to_be_visible()
        count = page.locator(".event-row").count()
        story.others(1)  # one of them fails
        story.flush()
        expect(page.locator(".event-row")).to_have_count(count + 1)
        for _ in range(3):
            story.many(60)
            story.flush()
            page.wait_for_timeout(300)
        until(page, f"() => document.querySelectorAll('.event-row').length === {count + 1}")
        page.get_by_label("Kind of event").select_option("")
        cells = "document.querySelectorAll('.event-row > :last-child')"
        numbers = f"[...{cells}].map(one => Number(one.textContent))"
        until(page, f"() => {numbers}.length >= 200")
        for _ in range(3):
            story.many(60)
            story.flush()
            page.wait_for_timeout(300)
        until(page, f"() => {numbers}[0] === {story.truth.last}")
        shown = page.evaluate(numbers)
        assert shown == list(range(shown[0], shown[-1] - 1, -1))
        seen.assert_quiet()


def test_no_winner_is_said_and_a_search_that_is_over_takes_no_commands(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, _ = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{BEHIND}")
        table_settled(page)
        headline = page.locator(".verdict-card .headline")
        expect(headline).to_contain_text(
            re.compile(r"Nothing beats BN-ReLU/BN-SiLU; nearest −\d+\.\d ± \d+\.\d points against")
        )
        expect(headline).not_to_contain_text("better than")
        page.locator(".t-body .t-row").first.click()
        for again in (page.locator(".verdict-card .remeasure"), page.locator(".drawer .remeasure")):
            expect(again).to_have_attribute("aria-disabled", "true")
            again.click(force=True)  # which says why not
            expect(page.locator(".toast").last).to_contain_text("Only a search that runs")
            expect(page.locator("dialog")).to_have_count(0)
        seen.assert_quiet()


def test_the_limit_that_ends_first_tells_the_finish(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, _ = made
    limits = {"train_steps": None, "hours": None, "gpu_hours": None, "no_gain": None,
              "target": None}  # fmt: skip
    told: dict[str, Any] = {}

    def changed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | told | {
            "status": "running", "phase": "search", "budget": 10_000_000})  # fmt: skip

    def costs(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"gpu_hours": 1.0})

    with visit(chrome) as seen:
        page = seen.page
        page.route(f"**/api/v1/searches/{SEARCH}", changed)
        page.route(f"**/api/v1/searches/{SEARCH}/costs", costs)
        cell = page.locator("[data-cell=finish]")
        for name, limit, words in (("gpu_hours", 1.1, "GPU-hours"), ("hours", 0.5, "hours"),
                                   ("train_steps", 10_000_000, "training steps")):  # fmt: skip
            told["limits"] = limits | {name: limit, "target": 0.9}
            page.goto(f"{service.url}/search/{SEARCH}")
            expect(cell).to_have_attribute("data-finish", name)
            expect(cell).to_have_attribute("data-tip", re.compile(f"The {words} end it.*a target"))
        told["limits"] = limits
        page.goto(f"{service.url}/search/{SEARCH}")
        expect(cell).to_have_attribute("data-finish", "evaluations")
        seen.assert_quiet()


UNCOVERED = """() => {
  const box = document.querySelector('#pause').getBoundingClientRect();
  const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return Boolean(there?.closest('#pause'));
}"""


def spot(page: Page) -> tuple[float, float]:
    """Where on the screen the chart's highest point is."""
    until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
    field = page.locator(".field-layer")
    field.focus()
    page.keyboard.press("ArrowUp")
    ring = page.locator(".point-ring").bounding_box()
    assert ring is not None
    return ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2


def test_two_clicks_open_the_candidate_and_one_the_drawer_beside(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, story = made
    leader = next(iter(story.truth.confirmed))
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        page.mouse.dblclick(*spot(page))
        expect(page).to_have_url(re.compile(rf"/search/{SEARCH}/candidate/{leader}$"))
        expect(page.locator("h1")).to_have_text(f"Candidate {leader}")
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        first = rows(page)[0]
        page.locator(".t-body .t-row").first.dblclick()
        expect(page).to_have_url(re.compile(rf"/candidate/{first}$"))
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        place = spot(page)
        page.keyboard.down("Shift")
        page.mouse.click(*place)
        page.keyboard.up("Shift")
        expect(page.locator(".tray")).to_contain_text(str(leader))
        expect(page.locator(".drawer")).to_be_hidden()
        page.mouse.click(*place)
        expect(page.locator(".drawer h2")).to_have_text(f"Candidate {leader}")
        settled(page)
        for width, height in ((1440, 900), (1240, 900), (400, 800)):
            page.set_viewport_size({"width": width, "height": height})
            for down in (0, 400):
                page.evaluate(f"scrollTo(0, {down})")
                page.wait_for_timeout(150)
                drawer = page.locator(".drawer").bounding_box()
                line = page.locator("#pause").bounding_box()
                chart = page.locator(".top-row .chart").bounding_box()
                assert drawer is not None
                assert line is not None
                assert chart is not None
                assert 0 <= line["y"] < line["y"] + line["height"] <= drawer["y"] + 1
                assert drawer["y"] + drawer["height"] == pytest.approx(height, abs=1)
                assert width < 1200 or chart["x"] + chart["width"] <= drawer["x"]
                assert page.evaluate(UNCOVERED)
        seen.assert_quiet()


def test_what_comes_while_a_candidate_loads_is_shown(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, story = made
    birth = story.candidate([0.5, 0.5, 0.5])
    story.flush()
    held: list[Route] = []
    with visit(chrome) as seen:
        page = seen.page
        page.route("**/events/stream", lambda route: held.append(route))
        page.goto(f"{service.url}/search/{SEARCH}/candidate/{birth}")
        gain = page.get_by_role("region", name="Gain over the better baseline")
        expect(gain).to_contain_text("provisional: one seed")
        until_held(page, held)
        story.confirm(birth, [[0.51, 0.52, 0.50], [0.51, 0.52, 0.50], [0.51, 0.52, 0.50]])
        story.write(StatusChanged(status="running"))
        story.flush()
        held[0].continue_()
        expect(gain).to_contain_text("confirmed on select, 3 seeds")
        expect(gain.locator("h2")).to_have_attribute(
            "data-tip", re.compile("On select, in points,")
        )


def until_held(page: Page, held: list[Route]) -> None:
    """Waits for the first request that is held."""
    for _ in range(100):
        if held:
            return
        page.wait_for_timeout(50)
    raise AssertionError("no request was held")


WALK = (
    "?tab=lineage", "?tab=primitives", "?tab=population", "?tab=workers", "?tab=events",
    "?tab=config", "?tab=notes", "?chart=pareto", "?chart=parallel",
)  # fmt: skip
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { get: () => undefined })"


def test_every_tab_chart_and_dialog_is_accessible(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, _ = made
    source = axe_source()
    with visit(chrome) as seen:
        page = seen.page
        page.add_init_script(NO_CLIPBOARD)  # as where the page is no secure context
        for place, where in enumerate(WALK):
            page.emulate_media(color_scheme=("light", "dark")[place % 2])  # type: ignore[arg-type]
            page.goto(f"{service.url}/search/{SEARCH}{where}")
            settled(page)
            assert seen.serious(source) == [], where
            if where == "?tab=config":
                page.get_by_role("button", name="Copy as TOML").click()
                expect(page.locator(".toast")).to_contain_text("The config is copied.")
        for opened in ("#extend", "#stop", ".verdict-card .remeasure"):
            page.locator(opened).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            assert seen.serious(source) == [], opened
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
        page.locator("#export").click()
        expect(page.get_by_role("menu")).to_be_visible()
        assert seen.serious(source) == []
        seen.assert_quiet()


def test_the_outcome_filter_is_the_services(made: tuple[Running, Story]) -> None:
    """What the page's links ask for is a filter of the interface."""
    service, story = made
    base = f"{service.url}/api/v1/searches/{SEARCH}"
    event = sorted(story.truth.outcome.values())[-5]
    asked = {"where": f"outcome > {event}", "sort": "-finished_at"}
    found = httpx.get(f"{base}/candidates", params=asked, timeout=30).json()["candidates"]
    after = sorted(((seq, one) for one, seq in story.truth.outcome.items() if seq > event))
    assert [one["birth"] for one in found] == [one for _, one in reversed(after)]
    since = httpx.get(f"{base}/since", params={"event": event}, timeout=30).json()
    assert since["evaluated"] == len(found) == 4
