"""The search page at scale: ``python -m tests.benchmarks.bench_dashboard [--candidates N]``.

Opens the page in Chromium over a real service in a process of its own and asks the browser's own
performance API: first useful paint (header and rows of the table are there), the longest frame
while the table scrolls and while a box is brushed, and the bytes of every request of every tab and
chart, beside those of a small search. The memory is that of the page's whole process (scripts,
elements, styles, pictures, WebGL buffers), as the system counts it, before and after minutes of
live events. Each target of the page is judged in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from api.settings import load_settings
from api.web import bind
from db.engine import begin
from db.sql_store import SqlStore, record
from tests.benchmarks.bench_store import ID, Log
from tests.benchmarks.record import write_result
from tests.support.browser import ROOT, browser, until
from tests.support.standings import Story

USEFUL = """() => new Promise(done => {
  const look = () => {
    const ready = document.querySelector('.search-header strong') && document.querySelector('.t-body .t-row');
    if (ready) requestAnimationFrame(() => done(performance.now()));
    else setTimeout(look, 5);
  };
  look();
})"""  # noqa: E501
HEADER = """() => new Promise(done => {
  const look = () => (document.querySelector('.search-header strong') ? done(performance.now()) : setTimeout(look, 5));
  look();
})"""  # noqa: E501
FRAMES = """() => {
  window.frames_ = [];
  let last = performance.now();
  const tick = (now) => {
    window.frames_.push(now - last);
    last = now;
    window.ticking_ = requestAnimationFrame(tick);
  };
  window.ticking_ = requestAnimationFrame(tick);
}"""
STOP = "() => { cancelAnimationFrame(window.ticking_); return window.frames_; }"
SMALL = 1000
TABS = ("simplest", "primitives", "lineage", "population", "workers", "events", "config", "notes")
VIEWS = {
    "candidates": "", "pareto": "?chart=pareto", "parallel": "?chart=parallel",
    "brush": "?brush=step_time:0..9,gain:-1..-0.2",
} | {tab: f"?tab={tab}" for tab in TABS}  # fmt: skip
"""View -> query of its address."""
BOUND, GROWTH = 700_000, 25
"""Bytes that no answer passes, and how much longer one may be with a hundred times as many."""
LIMITS = {"useful_s": 2.0, "frame_ms": 100.0, "page_mb": 400.0}
AT_ONCE = 1000
"""Candidates in one transaction while a store is filled."""
WAIT = 600_000


def fill(path: Path, candidates: int) -> None:
    """A store with a search of so many candidates, half of them evaluated, and its baselines."""
    store = SqlStore(str(path))
    story = Story(store, ID)
    story.baselines()
    story.flush()
    store.release(story.lease)
    log, last = Log(), story.truth.last
    while log.birth < candidates:
        count = min(AT_ONCE, candidates - log.birth)
        batch = [one for _ in range(count) for one in log.both()]
        now = datetime.now(UTC)
        with begin(store.engine, write=True) as connection:
            record(connection, ID, last, [(n, now, e) for n, e in enumerate(batch, last + 1)])
        last += len(batch)
    store.close()


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """The address of a web process over the store."""
    settings = load_settings({"db": f"sqlite:///{path}", "port": 0, "rate_per_minute": 10**6})
    bound = bind(settings)
    descriptor, port = bound.fileno(), bound.getsockname()[1]
    words = "from api.cli import main; main()"
    environment = {"EVOSEARCH_DB": f"sqlite:///{path}", "EVOSEARCH_RATE_PER_MINUTE": "1000000"}
    process = subprocess.Popen(
        [sys.executable, "-c", words, "web-process", str(descriptor)], cwd=ROOT,
        pass_fds=[descriptor], env=os.environ | environment,
        stdin=subprocess.PIPE,  # it ends when its input does, and ours may be closed
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdin is not None
        process.stdin.close()
        bound.close()


def frames(page: Page, act: Any) -> dict[str, float]:
    """Milliseconds of the frames while ``act`` runs."""
    page.evaluate(FRAMES)
    act()
    spans = sorted(page.evaluate(STOP))
    return {
        "frames": len(spans), "longest_ms": round(spans[-1], 1),
        "median_ms": round(spans[len(spans) // 2], 1),
    }  # fmt: skip


def scroll(page: Page) -> None:
    """Turns the wheel over the table for about four seconds."""
    page.locator(".t-scroll").hover()
    for _ in range(80):
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(50)


def brush(page: Page) -> None:
    """Draws a box over the points, and takes it away again."""
    box = page.locator(".field-layer").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for part in range(1, 40):
        page.mouse.move(box["x"] + box["width"] * part / 50, box["y"] + box["height"] * part / 50)
    page.mouse.up()
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)


def memory(made: Browser, page: Page) -> dict[str, float]:
    """MB after a collection: of the page's process, of the one that draws, and of scripts alone.

    The processes' are proportional set sizes, so that a library that several share counts once.
    """
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    whole = made.new_browser_cdp_session()
    found: dict[str, list[float]] = {}
    for one in whole.send("SystemInfo.getProcessInfo")["processInfo"]:
        found.setdefault(one["type"], []).append(proportional(int(one["id"])))
    whole.detach()
    return {
        # Beside the page's own process there may be a spare one, which holds next to nothing.
        "page_mb": round(max(found["renderer"]), 1), "gpu_mb": round(sum(found.get("GPU", [])), 1),
        "scripts_mb": round(told["JSHeapUsedSize"] / 1e6, 1), "elements": int(told["Nodes"]),
    }  # fmt: skip


def proportional(process: int) -> float:
    """Proportional set size of a process, in MB."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended meanwhile
    return next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:") / 1000


def requests(page: Page) -> dict[str, tuple[int, int]]:
    """Path of each request -> (how often, most bytes of its decoded body), as the browser says."""
    found: dict[str, tuple[int, int]] = {}
    for name, size in page.evaluate(
        "performance.getEntriesByType('resource').map(one => [one.name, one.decodedBodySize])"
    ):
        path = re.sub(r"/candidates/[0-9]+", "/candidates/BIRTH", urlsplit(name).path)
        if path.startswith("/api/") and not path.endswith("/stream"):
            often, most = found.get(path, (0, 0))
            found[path] = (often + 1, max(most, int(size)))
    return found


def tour(made: Browser, url: str) -> dict[str, dict[str, tuple[int, int]]]:
    """What each tab, chart and a brush ask for."""
    found = {}
    for name, query in VIEWS.items():
        page, _ = look(made, url, query)
        found[name] = requests(page)
        page.context.close()
    return found


def growing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Requests whose answers or number follow the number of candidates.

    A bounded answer fills up to its bound (a chart's 5,000 points) and no further; one that grew
    with the candidates would be a hundred times as long.
    """
    found = []
    for view, asked in after.items():
        for path, (often, size) in asked.items():
            once, small = before[view].get(path, (0, 0))
            if size > BOUND or (size > GROWTH * max(small, 1000)) or often > 3 * max(once, 3):
                found.append(f"{view}: {path}, {once} x {small} -> {often} x {size} bytes")
    return found


def look(made: Browser, url: str, query: str = "") -> tuple[Page, float]:
    """The page, opened with nothing cached; and when it was useful."""
    page = made.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{url}/search/{ID}{query}", wait_until="commit")
    useful = page.evaluate(USEFUL if "tab=" not in query else HEADER)
    if "chart=" not in query:
        until(page, "() => document.querySelector('.field-layer')?.offsetWidth > 0", WAIT / 1000)
    until(page, "() => !document.querySelector('main [aria-busy=true]')", WAIT / 1000)
    page.wait_for_timeout(2000)
    return page, round(useful / 1000, 3)


def live(path: Path, page: Page, minutes: float, per_second: int) -> int:
    """Appends events at that rate while the page watches; returns how many."""
    store = SqlStore(str(path))
    lease = store.acquire(ID, "bench", 7200)
    log = Log()
    log.birth = 10_000_000
    sent, begun = 0, time.monotonic()
    while sent < 60 * minutes * per_second:
        batch = log.both()
        store.append(lease, batch)
        sent += len(batch)
        ahead = sent / per_second - (time.monotonic() - begun)
        if ahead > 0:
            page.wait_for_timeout(1000 * ahead)
    store.release(lease)
    store.close()
    return sent


def verdicts(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target of the page, what was measured, and whether it is met."""
    measured = {
        "first useful paint, service warm": (figures["useful_s"], LIMITS["useful_s"]),
        "first useful paint, service cold": (figures["cold_useful_s"], LIMITS["useful_s"]),
        "longest frame while scrolling": (figures["scroll"]["longest_ms"], LIMITS["frame_ms"]),
        "longest frame while brushing": (figures["brush"]["longest_ms"], LIMITS["frame_ms"]),
        "longest frame while scrolling, after the events":
            (figures["scroll_after"]["longest_ms"], LIMITS["frame_ms"]),
        "memory of the page after the events, MB":
            (figures["memory_after"]["page_mb"], LIMITS["page_mb"]),
        "requests that grow with the candidates": (len(figures["growing"]), 0),
    }  # fmt: skip
    return {
        name: {"measured": value, "limit": limit, "met": value <= limit}
        for name, (value, limit) in measured.items()
    }


def main() -> None:
    """Fills two stores, opens the page over each, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--per-second", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="print, write no result")
    asked = parser.parse_args()
    figures: dict[str, Any] = {
        "candidates": asked.candidates, "minutes": asked.minutes, "per_second": asked.per_second,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, browser() as made:
        small, large = Path(folder) / "small.db", Path(folder) / "large.db"
        fill(small, min(SMALL, asked.candidates))
        fill(large, asked.candidates)
        with serving(small) as url:
            before = tour(made, url)
        with serving(large) as url:
            page, figures["cold_useful_s"] = look(made, url)
            page.context.close()
            after = tour(made, url)
            page, figures["useful_s"] = look(made, url)
            figures["scroll"] = frames(page, lambda: scroll(page))
            figures["brush"] = frames(page, lambda: brush(page))
            figures["memory"] = memory(made, page)
            begun = time.monotonic()
            figures["live_events"] = live(large, page, asked.minutes, asked.per_second)
            figures["live_per_second"] = round(
                figures["live_events"] / (time.monotonic() - begun), 1
            )
            figures["memory_after"] = memory(made, page)
            figures["scroll_after"] = frames(page, lambda: scroll(page))
    figures["growing"] = growing(before, after)
    figures["request_bytes"] = {
        view: {
            path: {"small": before[view].get(path, (0, 0))[1], "large": size}
            for path, (_, size) in sorted(paths.items())
        }
        for view, paths in after.items()
    }
    figures["verdicts"] = verdicts(figures)
    print(json.dumps(figures, indent=1))
    if not asked.dry:
        print(write_result("dashboard", figures))


if __name__ == "__main__":
    main()
