"""What charts and lists do while the reader is in them: brushes by hand, bars, many searches."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from db.controllers import Controllers
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.events import BudgetChanged, JobLost, Skipped, StatusChanged
from evosearch.records import Failure
from tests.acceptance.test_dashboard import FREE, rows
from tests.acceptance.test_dashboard_hands import saved
from tests.integration.test_rest_funnel import THROWN, thrown
from tests.support.browser import TIMEOUT, browser, settled, table_settled, until, visit
from tests.support.events import CREATED, queued
from tests.support.service import OFFERS, SEARCH, Running, running
from tests.support.standings import Story

expect.set_options(timeout=TIMEOUT)
EMPTY = [f"empty{k:03}" for k in range(57)]
BROKEN = EMPTY[20]
BARE = "bare0001"
"""A search whose baselines are not trained yet."""
FORMULA = "=1+1"
"""A title that a spreadsheet would compute."""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Story, Path]]:
    """More searches than one request compares, the last of them with an end of every kind."""
    folder: Path = tmp_path_factory.mktemp("charts")
    store = SqlStore(f"{folder}/store.db")
    for name in EMPTY:
        title = FORMULA if name == EMPTY[0] else f"empty {name}"
        ServiceWrites(store).create(name, title, CREATED, Notes())
    bare = Story(store, BARE)
    bare.many(3)
    bare.flush()
    story = Story(store, SEARCH)
    story.baselines()
    story.many(40)
    for code in THROWN:
        story.birth += 1
        story.write(queued(story.birth, skipped=Skipped(counts={"own_check": 3})),
                    thrown(story.birth, code))  # fmt: skip
    first = story.candidate([0.70, 0.64, 0.60])
    story.confirm(first, [[0.69, 0.70, 0.68], [0.66, 0.65, 0.64], [0.61, 0.60, 0.62]])
    story.flush()
    told = Controllers(store)
    told.register("me", "here", 1, "ray", OFFERS)
    with running(folder, **FREE) as service:
        yield service, story, folder
    store.close()


def beat(service: Running, busy: int) -> None:
    """Eight workers, so many of them busy."""
    Controllers(service.app.service.store).beat("me", 8, [
        {"name": f"ray-{k}", "state": "busy" if k < busy else "idle", "search": SEARCH,
         "job": "c7" if k < busy else "", "seconds": 5.0, "failures": {}}
        for k in range(8)
    ], [SEARCH])  # fmt: skip


def test_every_search_has_its_line_and_a_row_stays_the_element_that_it_is(
    made: tuple[Running, Story, Path], chrome: Browser
) -> None:
    service, story, _ = made
    with visit(chrome) as seen:
        page = seen.page

        def refuse(route: Route) -> None:
            if BROKEN in route.request.url:
                route.fulfill(status=500, json={"status": 500, "detail": "it is broken"})
            else:
                route.continue_()

        page.route("**/compare?*", refuse)
        page.goto(service.url)
        lists = page.locator(".search-row")
        expect(lists).to_have_count(len(EMPTY) + 2)
        expect(lists.first).to_contain_text("leader +")
        for name in (EMPTY[0], BROKEN):  # far below what is seen first
            row = page.locator(f".search-row[data-id={name}]")
            row.scroll_into_view_if_needed()
            told = "its log could not be read" if name == BROKEN else "no candidate is evaluated"
            expect(row).to_contain_text(told)
        page.get_by_label("Filter by title").fill(EMPTY[1])
        expect(lists).to_have_count(1)
        expect(lists.first).to_contain_text("no candidate is evaluated yet")
        page.get_by_label("Filter by title").fill("")
        expect(lists).to_have_count(len(EMPTY) + 2)
        row = page.locator(f".search-row[data-id={SEARCH}]")
        row.scroll_into_view_if_needed()
        title = row.locator(".search-title")
        title.evaluate("one => { one.mine = true; }")
        title.hover()
        ServiceWrites(service.app.service.store).create("newest01", "newest", CREATED, Notes())
        before = row.locator(".search-progress strong").inner_text()
        story.many(3)
        story.flush()
        expect(row.locator(".search-progress strong")).not_to_have_text(before)
        assert title.evaluate("one => one.mine && one.matches(':hover')")
        expect(page.locator(".search-row[data-id=newest01]")).to_have_count(0)
        page.mouse.move(2, 2)
        expect(page.locator(".search-row[data-id=newest01]")).to_have_count(1)
        assert title.evaluate("one => one.mine")
        box = row.get_by_role("checkbox")
        box.focus()
        page.keyboard.press("Space")
        story.many(2)
        story.flush()
        expect(row.locator(".search-progress strong")).to_have_text(str(43 + 1 + 2))
        expect(box).to_be_focused()
        expect(box).to_be_checked()
        assert all("500" in one for one in seen.complaints)


def test_seven_searches_are_too_many_and_none_is_none(
    made: tuple[Running, Story, Path], chrome: Browser
) -> None:
    service = made[0]
    wanted = "&".join(f"search={one}" for one in (SEARCH, *EMPTY[:7]))
    with visit(chrome, accept_downloads=True) as seen:
        page = seen.page
        page.goto(f"{service.url}/compare?{wanted}")
        expect(page.locator("#left-out")).to_contain_text("first 6 are compared")
        expect(page.locator("#left-out")).to_contain_text("2 are left out")
        settled(page)
        card = page.get_by_role("region", name="Funnels")
        until(
            page, "() => document.querySelector('section[aria-label=Funnels] .plot')?.data?.length"
        )
        text = saved(page, card.locator(".save-chart"), "CSV").decode()
        table = list(csv.DictReader(io.StringIO(text)))
        counts = {(one["search"], one["stage"]): one["count"] for one in table}
        assert int(counts["made up", "hurdles"]) > 40
        assert {count for (name, _), count in counts.items() if name != "made up"} == {"0"}
        assert {f"'{FORMULA}", f"empty {EMPTY[1]}"} <= {name for name, _ in counts}
        seen.assert_quiet()


def test_a_bar_of_the_funnel_lists_what_it_counts(
    made: tuple[Running, Story, Path], chrome: Browser
) -> None:
    service = made[0]
    with visit(chrome, accept_downloads=True) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        card = page.get_by_role("region", name="Funnel")
        bars = card.locator("button.funnel-row")
        stages = bars.evaluate_all("all => all.map(one => one.dataset.stage)")
        assert stages == ["fresh", "signal", "surrogate", "quality", "stability", "hurdles",
                          "evaluated", "front"]  # fmt: skip
        counts = dict(zip(stages, bars.locator(".funnel-count").all_inner_texts(), strict=True))
        for stage in ("signal", "stability", "front"):
            card.locator(f"[data-stage={stage}]").click()
            expect(page.locator(".t-foot")).to_have_text(re.compile(rf"^{counts[stage]} (of|row)"))
            expect(page.locator(".t-body .t-row").first).to_be_visible()
        expect(card.locator(".funnel-row:not(button)")).to_have_count(2)
        expect(card.locator(".funnel-row:not(button)").last).to_contain_text("own checks")
        expect(card.locator(".funnel-row:not(button)").last).to_contain_text("saved")
        card.hover()
        text = saved(page, card.locator(".save-chart"), "CSV").decode()
        assert text.splitlines()[0].split(",")[5:8] == ["false_rejection_rate", "rate_low",
                                                        "rate_high"]  # fmt: skip
        seen.assert_quiet()


def field(page: Page) -> dict[str, Any]:
    """Where the chart's field is."""
    until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
    box = page.locator(".field-layer").bounding_box()
    assert box is not None
    return dict(box)


def test_keys_draw_a_box_that_every_panel_follows(
    made: tuple[Running, Story, Path], chrome: Browser
) -> None:
    service = made[0]
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?tab=population")
        settled(page)
        field(page)
        note = page.get_by_role("region", name="Age against score").locator(".chart-note")
        expect(note).to_contain_text(re.compile(r"^\d+ members\. "))
        page.locator(".field-layer").focus()
        for key in ("End", "b", "Escape"):  # a box that is dropped filters nothing
            page.keyboard.press(key)
        expect(page.locator(".brush-box")).to_be_hidden()
        expect(page.locator(".filter-bar")).to_be_hidden()
        said = page.locator(".plot-wrap [role=status]")
        births = []
        for keys in (("ArrowUp",), ("ArrowDown",) * 4):
            for key in keys:
                page.keyboard.press(key)
            births.append(int(said.inner_text().split()[1].strip(",")))
            page.keyboard.press("b")
        expect(page.locator("#filter-count")).to_be_visible()
        inside = int(page.locator("#filter-count").inner_text().split()[0])
        assert 2 <= inside < 40
        expect(note).to_contain_text(f", {inside} in the filter")
        for tab in ("Simplest", "Primitives", "Candidates"):
            page.get_by_role("tab", name=tab).click()
            if tab == "Primitives":
                expect(page.locator(".tab-panel")).to_contain_text("those in the filter")
            elif tab == "Simplest":
                numbers = page.locator(".tab-panel tbody tr td:last-child")
                expect(numbers.first).to_be_visible()
                assert sum(map(int, numbers.all_inner_texts())) == inside
        table_settled(page)
        assert set(births) <= set(rows(page))
        page.get_by_role("tab", name="Simplest").click()
        page.keyboard.press("Escape")
        expect(page.locator(".filter-bar")).to_be_hidden()
        until(page, "() => [...document.querySelectorAll('.tab-panel tbody td:last-child')]"
                    ".reduce((sum, one) => sum + Number(one.textContent), 0) > 40")  # fmt: skip
        page.goto(f"{service.url}/search/{BARE}?tab=population")
        ages = page.get_by_role("region", name="Age against score")
        expect(ages.locator(".ytitle")).to_have_text("mean score")
        seen.assert_quiet()


def test_a_finger_draws_a_box(made: tuple[Running, Story, Path], chrome: Browser) -> None:
    service = made[0]
    with visit(chrome, has_touch=True, viewport={"width": 400, "height": 900}) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        settled(page)
        page.locator(".field-layer").scroll_into_view_if_needed()
        box = field(page)
        wire = page.context.new_cdp_session(page)

        def touch(kind: str, x: float, y: float) -> None:
            at = [] if kind == "touchEnd" else [{"x": box["x"] + x, "y": box["y"] + y}]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

        touch("touchStart", 4, box["height"] / 2)
        for share in (0.3, 0.6, 0.9):  # sideways first: upwards is the page's to scroll
            touch("touchMove", share * box["width"], (1 - share) * box["height"] / 2)
        touch("touchEnd", 0, 0)
        expect(page.locator("#filter-count")).to_be_visible()
        expect(page).to_have_url(re.compile("brush="))
        seen.assert_quiet()


def test_what_is_late_does_not_take_another_chart(
    made: tuple[Running, Story, Path], chrome: Browser
) -> None:
    """Nor do workers move under the pointer; who led at the last visit is drawn faintly."""
    service, story, _ = made
    beat(service, 1)
    with visit(chrome) as seen:
        page = seen.page
        held: list[Route] = []
        page.route("**/scatter?*points=300*", lambda route: held.append(route))
        page.goto(f"{service.url}/search/{SEARCH}?tab=workers")
        settled(page)
        page.get_by_role("button", name="Parallel").click()
        for _ in range(200):
            if len(held) == 2 + 3:  # an axis for each cost and each anchor
                break
            page.wait_for_timeout(50)
        assert len(held) == 5
        page.get_by_role("button", name="Gain / cost").click()
        field(page)
        for route in held:
            with page.expect_response("**/scatter?*points=300*"):
                route.continue_()
        page.unroute("**/scatter?*points=300*")
        page.wait_for_timeout(500)
        drawn = "document.querySelector('.plot-wrap .plot').layout.annotations?.length ?? 0"
        assert page.evaluate(drawn) == 0  # the ends of parallel axes
        expect(page.locator(".chart .ytitle").first).to_contain_text("gain over")
        page.get_by_role("button", name="Parallel").click()
        card = page.locator(".chart", has=page.get_by_role("heading", name="Parallel"))
        expect(card.locator(".chart-note")).to_contain_text("candidates as lines")
        expect(card.locator(".chart-note")).not_to_contain_text("Drag")
        busy = page.get_by_role("region", name="Throughput").locator(".plot").evaluate(
            "plot => [plot.layout.shapes[0].y0, plot.layout.yaxis2.range[1]]"
        )  # fmt: skip
        assert busy[0] == 8
        assert busy[1] >= 8
        table = page.locator(".controller table")
        table.locator("tr", has_text="ray-0").hover()
        beat(service, 3)
        failure = Failure(cause="hung", detail="")
        story.birth += 1
        lost = JobLost(id=f"c{story.birth}", failure=failure, attempt=1, worker="ray-1")
        story.write(queued(story.birth), lost)
        story.flush()
        expect(page.locator("[data-cell=workers]")).to_contain_text("3 / 8")
        expect(table.locator("tr", has_text="busy")).to_have_count(1)
        page.mouse.move(2, 2)
        expect(table.locator("tr", has_text="busy")).to_have_count(3)
        assert_former_leaders(page, service, story)
        seen.assert_quiet()


def assert_former_leaders(page: Page, service: Running, story: Story) -> None:
    """Who led at the last visit stays on the chart when another leads."""
    page.goto(f"{service.url}/search/{SEARCH}")
    table_settled(page)
    at = page.request.get(f"{service.url}/api/v1/searches/{SEARCH}").json()["last_event"]
    story.candidate([0.9, 0.9, 0.9])
    story.flush()
    kept = {"seen": 0, "event": at, "before": None}
    page.goto(service.url)
    page.evaluate(
        f"localStorage.setItem('evosearch.visit.{SEARCH}', {json.dumps(json.dumps(kept))})"
    )
    page.goto(f"{service.url}/search/{SEARCH}")
    table_settled(page)
    name = "leaders at your last visit"
    until(
        page,
        f"() => document.querySelector('.chart .plot').data?.some(one => one.name === '{name}')",
    )
    drawn = page.locator(".chart .plot").first.evaluate(
        f"plot => [...plot.data.find(one => one.name === '{name}').customdata]"
    )
    asked = f"{service.url}/api/v1/searches/{SEARCH}/since"
    since = page.request.get(asked, params={"event": at}).json()
    assert since["leader_now"] == since["leader_before"]  # one seed is no leader yet
    assert drawn == [one for one in since["leaders_before"] if one != since["leader_now"]]
    assert len(drawn) > 2


def test_a_search_that_its_hours_ended(made: tuple[Running, Story, Path], chrome: Browser) -> None:
    """One more came in after the budget's end; the two marks stand together, and each interval has
    its place on the chart."""
    service, other, _ = made
    story = Story(other.store, "hours001")
    story.baselines()
    story.many(9)
    story.write(BudgetChanged(evaluations=9, reason="hours"))
    best = story.candidate([0.72, 0.64, 0.60])
    story.confirm(best, [[0.60, 0.80, 0.70], [0.66, 0.55, 0.74], [0.61, 0.50, 0.72]])
    story.write(StatusChanged(status="running"), StatusChanged(status="finished"))
    story.flush()
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/hours001")
        settled(page)
        expect(page.locator("[data-cell=evaluated]")).to_contain_text("10 / 10")
        progress = page.get_by_role("region", name="Progress").locator(".plot")
        words = progress.evaluate("plot => plot.layout.annotations.map(one => one.text)")
        assert "budget, paused, resumed, finished" in words
        ends = page.locator(".chart .plot").first.evaluate(
            "plot => [plot.layout.yaxis.range, plot.data.filter(one => one.error_y).flatMap(one =>"
            " one.y.flatMap((y, i) => [y - one.error_y.array[i], y + one.error_y.array[i]]))]"
        )
        assert len(ends[1]) == 2
        assert ends[0][0] < min(ends[1]) < max(ends[1]) < ends[0][1]
        page.goto(f"{service.url}/search/hours001/report")
        expect(page.locator("main")).to_contain_text("10 of 10 evaluated")
        seen.assert_quiet()
