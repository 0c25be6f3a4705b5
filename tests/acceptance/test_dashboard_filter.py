"""A brush where points are too many to be drawn, rare events in a long log, workers as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from db.controllers import Controllers
from db.sql_store import SqlStore
from evosearch.events import JobLost
from evosearch.records import Failure
from tests.acceptance.test_dashboard import FREE, rows
from tests.support.browser import TIMEOUT, browser, table_settled, until, visit
from tests.support.events import queued
from tests.support.service import OFFERS, SEARCH, Running, running
from tests.support.standings import BASELINES, Story

expect.set_options(timeout=TIMEOUT)
CANDIDATES = 5400


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Story]]:
    """A search with more candidates than a chart has points, and a worker lost at its beginning."""
    folder: Path = tmp_path_factory.mktemp("large")
    store = SqlStore(f"{folder}/store.db")
    story = Story(store, SEARCH)
    story.baselines()
    failure = Failure(cause="hung", detail="no message for 60 seconds")
    story.birth += 1
    lost = JobLost(id=f"c{story.birth}", failure=failure, attempt=1, worker="ray-1")
    story.write(queued(story.birth), lost)
    story.many(CANDIDATES)
    story.flush()
    told = Controllers(store)
    told.register("me", "here", 1, "ray", OFFERS)
    told.beat("me", 3, [
        {"name": "ray-1", "state": "dead", "seconds": 30.0, "failures": {"hung": 1}},
        {"name": "ray-2", "state": "busy", "search": SEARCH, "job": "c7", "seconds": 5.0,
         "failures": {}},
        {"name": "ray-3", "state": "starting", "seconds": 2.0, "failures": {}},
    ], [SEARCH])  # fmt: skip
    with running(folder, **FREE) as service:
        yield service, story
    store.close()


def drag(page: Page, top: float, bottom: float) -> None:
    """Brushes the field's whole width between two shares of its height."""
    until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
    box = page.locator(".field-layer").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + top * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + bottom * box["height"] - 1, steps=6)
    page.mouse.up()
    expect(page.locator("#filter-count")).to_be_visible()


def gains(story: Story) -> dict[int, float]:
    """Mean gain of each candidate, from what was written."""
    better = np.array([max(one[k] for one in BASELINES.values()) + 0.01 for k in range(3)])
    return {birth: float(np.mean(np.array(one) - better))
            for birth, one in story.truth.scores.items()}  # fmt: skip


def series(page: Page, card: str, name: str) -> list[Any]:
    """Values along y of the trace of that name in the card's chart."""
    found: list[Any] = (
        page.get_by_role("region", name=card)
        .locator(".plot")
        .evaluate(
            "(plot, name) => Array.from(plot.data.find(one => one.name === name)?.y ?? [])", name
        )
    )
    return found


def test_a_brush_over_what_is_no_point_filters_everything(
    made: tuple[Running, Story], chrome: Browser, tmp_path: Path
) -> None:
    service, story = made
    with visit(chrome, accept_downloads=True) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}")
        table_settled(page)
        drag(page, 0.75, 1.0)
        brush = parse_qs(urlsplit(page.url).query)["brush"][0]
        low, high = (float(one) for one in brush.rsplit(":", 1)[1].split(".."))
        known = gains(story)
        inside = {birth for birth, gain in known.items() if low <= gain <= high}
        scatter = page.request.get(f"{service.url}/api/v1/searches/{SEARCH}/scatter").json()
        hidden = inside - set(scatter["births"])
        assert hidden, "the box holds what is drawn as shades alone"
        expect(page.locator("#filter-count")).to_contain_text(f"{len(inside):,}")
        expect(page.locator(".t-foot")).to_contain_text(f"{len(inside)} rows")
        page.get_by_role("grid").focus()
        page.keyboard.press("End")
        page.keyboard.press("End")
        shown = rows(page)
        assert shown
        assert set(shown) <= inside
        bar = page.locator(".funnel-row[data-stage=evaluated] .funnel-count")
        expect(bar).to_have_text(f"{len(inside):,} / {CANDIDATES:,}")
        until(page, "() => [...document.querySelectorAll('.plot')].filter(one => one.data"
                    "?.some(trace => trace.name === 'in the filter')).length === 2")  # fmt: skip
        led = series(page, "Progress", "in the filter")
        assert led[-1] == pytest.approx(100 * max(known[birth] for birth in inside), abs=0.01)
        with page.expect_download() as download:
            page.locator(".candidates .toolbar").get_by_role("link", name="CSV").click()
        download.value.save_as(tmp_path / "inside.csv")
        lines = (tmp_path / "inside.csv").read_text(encoding="utf-8").splitlines()
        assert {int(line.split(",")[0]) for line in lines[1:]} == inside
        page.get_by_role("button", name="Parallel").click()
        until(page, f"() => {PARALLEL}")
        assert set(page.evaluate(PARALLEL_BIRTHS)) <= inside
        page.reload()  # the URL holds it
        expect(page.locator("#filter-count")).to_contain_text(f"{len(inside):,}")
        expect(page.locator(".t-foot")).to_contain_text(f"{len(inside)} rows")
        page.keyboard.press("Escape")
        expect(page.locator(".filter-bar")).to_be_hidden()
        expect(bar).to_have_text(f"{CANDIDATES:,}")
        seen.assert_quiet()


PARALLEL = "document.querySelector('.chart .plot')?.layout?.annotations?.length"
PARALLEL_BIRTHS = """async () => {
  const asked = performance.getEntriesByType('resource').map(one => one.name)
    .filter(one => ['/scatter', 'points=300', 'range='].every(part => one.includes(part)));
  const found = await (await fetch(asked.at(-1))).json();
  return found.births;
}"""


def test_the_table_shows_step_times_whatever_the_chart_shows(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, _ = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?x=live_nodes")
        table_settled(page)
        page.set_viewport_size({"width": 1700, "height": 900})
        expect(page.locator(".t-body .t-row").first).to_contain_text("0.70×")
        seen.assert_quiet()


def test_a_lost_worker_far_back_in_the_log_is_found(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, story = made
    assert story.truth.last > 20_000
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?tab=events&kind=job_lost")
        expect(page.locator(".event-row")).to_have_count(1)
        expect(page.locator(".event-row")).to_contain_text("c1: hung, attempt 1, ray-1")
        page.get_by_label("Kind of event").select_option("failures")
        expect(page.locator(".event-row")).to_have_count(1)
        page.get_by_label("Kind of event").select_option("")
        expect(page.locator(".event-row")).to_have_count(200)
        page.get_by_role("button", name="Older events").click()
        expect(page.locator(".event-row")).to_have_count(400)
        seen.assert_quiet()


def test_workers_are_shown_as_their_pool_sees_them(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, _ = made
    Controllers(service.app.service.store).beat(
        "me", 3, service.app.service.controllers.list()[0].workers, [SEARCH]
    )
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?tab=workers")
        table = page.locator(".controller table")
        expect(table.locator("tbody tr")).to_have_count(3)
        for name, state in (("ray-1", "dead"), ("ray-2", "busy"), ("ray-3", "starting")):
            expect(table.locator("tr", has_text=name)).to_contain_text(state)
        expect(table.locator("tr", has_text="ray-1")).to_contain_text("hung 1")
        expect(page.locator("[data-cell=workers]")).to_contain_text(re.compile(r"1 / 2"))
        expect(page.get_by_role("region", name="Failures by cause")).to_contain_text("hung")
        seen.assert_quiet()


def test_a_full_population_is_drawn(made: tuple[Running, Story], chrome: Browser) -> None:
    service, _ = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?tab=population")
        chart = page.get_by_role("region", name="Age against score")
        expect(chart.locator(".scatterlayer .point")).to_have_count(2000)
        seen.assert_quiet()
