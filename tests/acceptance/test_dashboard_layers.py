"""The pages of a candidate, of things side by side, and of a layer that is typed, in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from db.sql_store import SqlStore
from primitives.formula import parse
from tests.acceptance.test_dashboard import FREE, assert_layer_runs, write_story
from tests.support.browser import LOOKS, TIMEOUT, axe_source, browser, settled, visit
from tests.support.service import SEARCH, Running, running

expect.set_options(timeout=TIMEOUT)
OTHER = "other001"
FORMULA = "x * sigmoid(v1 * x) / std_group(x)"
QUEUED = "max(x, zero) / std_batch(x)"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, int]]:
    """A service over a made-up search and a copy of it as it once was; the leader's birth."""
    folder: Path = tmp_path_factory.mktemp("layers")
    store = SqlStore(f"{folder}/store.db")
    story = write_story(store)
    store.close()
    with running(folder, helper_seconds=120, **FREE) as service:
        yield service, next(iter(story.truth.confirmed))


@pytest.fixture(scope="module")
def copy(made: tuple[Running, int]) -> str:
    """The id of a copy of the search as it was before its confirmation."""
    answer = httpx.post(
        f"{made[0].url}/api/v1/searches/{SEARCH}/clone",
        json={"at_event": 400, "title": "the copy"},
        timeout=TIMEOUT / 1000,
    )
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


def test_a_candidate_is_understood_and_taken_home(
    made: tuple[Running, int], chrome: Browser, tmp_path: Path
) -> None:
    service, birth = made
    about = httpx.get(
        f"{service.url}/api/v1/searches/{SEARCH}/candidates/{birth}/about", timeout=TIMEOUT / 1000
    ).json()
    with visit(chrome, accept_downloads=True) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/{SEARCH}/candidate/{birth}")
        expect(page.locator("h1")).to_have_text(f"Candidate {birth}")
        settled(page)
        formula = page.get_by_role("region", name="Formula")
        expect(formula.locator("math")).to_be_visible()
        expect(formula.locator(".formula-line code")).to_have_text(about["formula"])
        drawn = about["drawing"]["nodes"]
        expect(page.locator(".graph .node")).to_have_count(len(drawn))
        expect(page.locator(".graph .node.dead")).to_have_count(
            sum(not one["live"] for one in drawn)
        )
        gain = page.get_by_role("region", name="Gain over the better baseline")
        expect(gain.locator(".big-gain")).to_contain_text(f"+{100 * about['gain']['value']:.1f} ±")
        expect(gain.locator(".gain-dots li")).to_have_count(4)
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        family = page.get_by_role("region", name="Lineage")
        expect(family.locator("ins.new").first).to_be_visible()
        parent = family.get_by_role("link").first
        name = parent.inner_text()
        with page.expect_download() as download:
            page.locator("#download").click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        assert target.stem.isidentifier()
        assert_layer_runs(target)
        page.get_by_role("radio", name="Formula").click()
        expect(page.locator(".snippet pre")).to_contain_text("evosearch.parse(")
        parent.click()
        expect(page.locator("h1")).to_have_text(name)
        page.goto(f"{service.url}/search/{SEARCH}/candidate/999999")
        expect(page.locator("main")).to_contain_text("There is no such candidate")


def without_curves(route: Route) -> None:
    """A service that checks layers and cannot compute their curves."""
    if '"curves":true' in (route.request.post_data or ""):
        route.fulfill(status=503, json={"status": 503, "detail": "the helper is away"})
    else:
        route.continue_()


def test_a_layer_is_checked_as_it_is_typed_and_enqueued(
    made: tuple[Running, int], copy: str, chrome: Browser
) -> None:
    service, _ = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/layer")
        field = page.locator("#formula")
        field.fill("x * sigmoid(v1 *")
        expect(page.locator(".formula-told")).to_contain_text(re.compile("at character|expected"))
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#enqueue")).to_be_disabled()
        seen.complaints.clear()  # the browser reports the refused request, as it should
        field.fill(FORMULA)
        expect(page.locator(".formula-told")).to_be_empty()
        expect(page.locator(".graph .node")).to_have_count(7)
        expect(page.locator("main")).to_contain_text("equals EvoNorm-S0")
        expect(page.locator(".check-verdict")).to_be_visible()
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        expect(page).to_have_url(re.compile("formula=x"))
        page.route("**/layers/check", without_curves)
        field.fill("x * sigmoid(x)")
        card = page.get_by_role("region", name="Response curves")
        expect(card).to_contain_text("the helper is away")  # and not the last layer's curves
        expect(card.locator(".main-svg")).to_have_count(0)
        page.unroute("**/layers/check")
        card.get_by_role("button", name="Try again").click()
        expect(card.locator(".main-svg").first).to_be_visible()
        seen.complaints.clear()
        field.fill(FORMULA)
        expect(page.locator(".graph .node")).to_have_count(7)
        page.get_by_role("button", name="Insert tanh").click()
        expect(field).to_have_value(FORMULA + "tanh()")
        field.fill(QUEUED)
        page.locator("#enqueue").click()  # as soon as it may: never with the formula before
        page.locator("#into").select_option(copy)
        page.locator("#note").fill("by hand")
        page.locator("dialog [type=submit]").click()
        expect(page.locator(".toast")).to_contain_text("Enqueued into")
    store = service.app.service.store
    waiting = store.commands(store.acquire(copy, "story", 60))
    assert [one.command.kind for one in waiting] == ["enqueue"]
    assert waiting[0].command.note == "by hand"
    assert waiting[0].command.graph == parse(QUEUED)


def test_searches_and_candidates_stand_side_by_side(
    made: tuple[Running, int], copy: str, chrome: Browser
) -> None:
    service, birth = made
    with visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/compare")
        page.locator(f"#pick-{SEARCH}").check()
        expect(page.locator("#compare-go")).to_be_disabled()
        page.locator(f"#pick-{copy}").check()
        page.locator("#compare-go").click()
        expect(page.locator(".compare-table thead th").first).to_contain_text("made up")
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        expect(page.locator("main")).to_contain_text("All settings are the same")
        page.goto(
            f"{service.url}/compare?candidate={SEARCH}-{birth}&candidate={SEARCH}-{birth + 1}"
        )
        expect(page.locator(".compare-table").first.locator("thead th")).to_have_count(2)
        expect(page.locator(".compare-table ins.new").first).to_be_visible()
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        seen.assert_quiet()


@pytest.mark.parametrize("what", ["searches", "candidates", "layer"])
def test_they_are_accessible_and_fit(
    what: str, made: tuple[Running, int], copy: str, chrome: Browser
) -> None:
    service, birth = made
    source = axe_source()
    address = {
        "searches": f"/compare?search={SEARCH}&search={copy}",
        "candidates": f"/compare?candidate={SEARCH}-{birth}&candidate={SEARCH}-{birth + 1}",
        "layer": "/layer?formula=x%20*%20sigmoid(x)",
    }[what]
    with visit(chrome) as seen:
        page = seen.page
        for width, theme in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.goto(service.url + address)
            expect(page.locator(".compare-table, .check-verdict").first).to_be_visible()
            settled(page)
            beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert beyond <= 0, f"{what} at {width} px is {beyond} px too wide"
            assert seen.serious(source) == []
        seen.assert_quiet()
