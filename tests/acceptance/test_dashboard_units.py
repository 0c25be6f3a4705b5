"""A search whose objective is lower-is-better: every page shows values in its unit, not scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from db.sql_store import SqlStore
from evosearch.objectives import Objective
from tests.acceptance.test_dashboard import FREE, write_story
from tests.support.browser import TIMEOUT, browser, settled, table_settled, until, visit
from tests.support.events import ANCHORS, CREATED
from tests.support.service import SEARCH, Running, running
from tests.support.standings import Story

expect.set_options(timeout=TIMEOUT)
BPC = Objective("bpc", "min", "bit/char")
TIME = Objective("latency", "min", "ms")
FURTHER = f"{ANCHORS[0]}#{TIME.name}"
MINUS = "\u2212"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Story]]:
    """A service over a search in bits per character, with milliseconds beside the first anchor."""
    folder: Path = tmp_path_factory.mktemp("units")
    task = CREATED.config.task
    anchors = [
        one.model_copy(update={"objectives": (BPC, TIME) if one.name == ANCHORS[0] else (BPC,)})
        for one in task.anchors
    ]
    changed = task.model_copy(update={"anchors": tuple(anchors)})
    config = CREATED.config.model_copy(update={"task": changed})
    store = SqlStore(f"{folder}/store.db")
    created = CREATED.model_copy(update={"config": config})
    story = Story(store, SEARCH, created=created, shift=-2.5, further={FURTHER: -7.25})
    write_story(store, story)
    store.close()
    with running(folder, helper_seconds=120, **FREE) as service:
        yield service, story


def test_the_search_shows_values_in_their_unit(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, story = made
    leader = next(iter(story.truth.confirmed))
    with visit(chrome, viewport={"width": 1700, "height": 1000}) as seen:
        page = seen.page
        base = f"{service.url}/api/v1/searches/{SEARCH}"
        verdict = page.request.get(f"{base}/verdict").json()
        gain = verdict["leader"]["gain"]["value"]
        assert f"{gain:+.3f}" in verdict["text"]
        assert "bit/char over the better baseline" in verdict["text"]
        assert "bpc, bit/char, lower is better" in verdict["text"]
        assert "points" not in verdict["text"]
        page.goto(f"{service.url}/search/{SEARCH}?c={leader}")
        table_settled(page)
        card = page.locator(".verdict-card")
        expect(card.locator(".headline strong")).to_contain_text(f"+{gain:.3f}")
        expect(card.locator(".over")).to_contain_text("bit/char better than")
        expect(card.locator(".over")).to_contain_text("bpc, bit/char, lower is better")
        heads = page.locator(".t-head [role=columnheader]").all_inner_texts()
        assert f"{ANCHORS[0]} (bpc, bit/char)" in heads
        row = page.locator(".t-body .t-row", has=page.get_by_text(str(leader), exact=True)).first
        anchors = {one["anchor"]: one for one in verdict["leader"]["anchors"]}
        listed = page.request.get(f"{base}/candidates/{leader}").json()["scores"]
        assert anchors[ANCHORS[0]]["score"] < 0  # a score is better the higher it is
        expect(row).to_contain_text(f"{-listed[ANCHORS[0]]:.3f}")
        expect(row).not_to_contain_text(f"{MINUS}{-listed[ANCHORS[0]]:.3f}")
        expect(page.locator(".drawer")).to_contain_text(f"{ANCHORS[0]} (bpc, bit/char)")
        expect(page.locator(".ytitle").first).to_have_text(
            "gain over the better baseline, bit/char"
        )
        expect(page.locator("main")).not_to_contain_text("points over")
        expect(page.locator("main")).not_to_contain_text("#")
        seen.assert_quiet()


def test_an_axis_of_scores_shows_values(made: tuple[Running, Story], chrome: Browser) -> None:
    service, _ = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?chart=pareto")
        table_settled(page)
        expect(page.locator(".ytitle").first).to_have_text(
            re.compile(r"bpc on \w+, bit/char, lower is better")
        )
        ticks = page.locator(".ytick text").all_text_contents()
        assert ticks
        assert all(0 < float(one.replace(MINUS, "-")) < 4 for one in ticks[:4])
        seen.assert_quiet()


def test_the_candidate_page_shows_values(made: tuple[Running, Story], chrome: Browser) -> None:
    service, story = made
    leader = next(iter(story.truth.confirmed))
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}/candidate/{leader}")
        settled(page)
        gain = page.get_by_role("region", name="Gain over the better baseline")
        expect(gain.locator(".big-gain")).to_contain_text("bit/char")
        expect(gain.locator(".big-gain")).to_contain_text("lower is better")
        about = page.request.get(
            f"{service.url}/api/v1/searches/{SEARCH}/candidates/{leader}/about"
        ).json()
        first = about["anchors"][0]
        expect(gain).to_contain_text(f"{-first['score']:.3f} / {-first['baseline_score']:.3f}")
        expect(page.get_by_role("region", name="Scores")).to_contain_text("(bpc, bit/char)")
        seen.assert_quiet()


def test_a_further_objective_is_an_axis_and_its_brush_a_filter(
    made: tuple[Running, Story], chrome: Browser
) -> None:
    service, story = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}?chart=pareto")
        table_settled(page)
        page.get_by_label("Vertical").select_option(f"score.{FURTHER}")
        expect(page.locator(".ytitle").first).to_have_text("latency on resnet, ms, lower is better")
        until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0")
        settled(page)
        steps = page.locator(".chart .plot").first.evaluate(
            "plot => plot.data.find(one => one.name === 'on the front').x.length"
        )
        assert steps == 1  # all take as long, so the lowest loss alone is not dominated
        page.get_by_label("Vertical").select_option(f"score.{ANCHORS[1]}")
        expect(page.locator(".ytitle").first).to_have_text(
            f"bpc on {ANCHORS[1]}, bit/char, lower is better"
        )
        settled(page)
        page.wait_for_timeout(300)
        box = page.locator(".field-layer").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2, steps=5)
        page.mouse.up()
        expect(page.locator("#filter-count")).to_be_visible()
        found = re.search(r"brush=[^&]*", page.url)
        assert found is not None
        first = found[0].split("%3A")[1].split("%2C")[0]
        low, high = (float(one) for one in first.split(".."))
        assert low < high < 0
        inside = [one for one in story.truth.scores.values() if low <= one[0] <= high]
        assert 0 < len(inside) < len(story.truth.scores)
        expect(page.locator("#filter-count")).to_contain_text(f"{len(inside)} evaluated")
        expect(page.locator(".t-foot")).to_contain_text(f"{len(inside)} rows")
        seen.assert_quiet()
