"""The search page at scale: ``python -m tests.benchmarks.bench_dashboard [--candidates N]``.

Opens the page in Chromium over a real service in a process of its own and asks the browser's own
performance API: first useful paint (header and rows of the table are there), the longest frame
while the table scrolls and while a box is brushed, the memory of the page before and after minutes
of live events, and the bytes of every request, beside those of a small search.
"""

from __future__ import annotations

import argparse
import json
import os
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


def memory(page: Page) -> float:
    """MB of the page's JavaScript heap after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    if "JSHeapUsedSize" not in found:
        session.send("Performance.enable")
        told = session.send("Performance.getMetrics")["metrics"]
        found = {one["name"]: one["value"] for one in told}
    return round(found["JSHeapUsedSize"] / 1e6, 1)


def requests(page: Page) -> dict[str, int]:
    """Path of each request -> most bytes of its decoded body, as the browser counted them."""
    found: dict[str, int] = {}
    for name, size in page.evaluate(
        "performance.getEntriesByType('resource').map(one => [one.name, one.decodedBodySize])"
    ):
        path = urlsplit(name).path
        if path.startswith("/api/") and not path.endswith("/stream"):
            found[path] = max(found.get(path, 0), int(size))
    return found


def look(made: Browser, url: str) -> tuple[Page, float]:
    """The page, opened with nothing cached; and when it was useful."""
    page = made.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{url}/search/{ID}", wait_until="commit")
    useful = page.evaluate(USEFUL)
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
    sent, until = 0, time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        begun = time.monotonic()
        batch = [one for _ in range(max(1, per_second // 4)) for one in log.both()][:per_second]
        store.append(lease, batch)
        sent += len(batch)
        page.wait_for_timeout(max(1.0, 1000 * (1.0 - (time.monotonic() - begun))))
    store.release(lease)
    store.close()
    return sent


def main() -> None:
    """Fills two stores, opens the page over each, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--per-second", type=int, default=20)
    asked = parser.parse_args()
    figures: dict[str, Any] = {"candidates": asked.candidates}
    with tempfile.TemporaryDirectory() as folder, browser() as made:
        small, large = Path(folder) / "small.db", Path(folder) / "large.db"
        fill(small, min(SMALL, asked.candidates))
        fill(large, asked.candidates)
        with serving(small) as url:
            page, _ = look(made, url)
            before = requests(page)
            page.context.close()
        with serving(large) as url:
            figures["cold_useful_s"] = look(made, url)[1]
            page, figures["useful_s"] = look(made, url)
            after = requests(page)
            figures["scroll"] = frames(page, lambda: scroll(page))
            figures["brush"] = frames(page, lambda: brush(page))
            figures["memory_mb"] = memory(page)
            figures["live_events"] = live(large, page, asked.minutes, asked.per_second)
            figures["memory_after_mb"] = memory(page)
            figures["scroll_after"] = frames(page, lambda: scroll(page))
    figures["request_bytes"] = {
        path: {"small": before.get(path), "large": after.get(path)}
        for path in sorted(before.keys() | after.keys())
    }
    print(json.dumps(figures, indent=1))
    print(write_result("dashboard", figures))


if __name__ == "__main__":
    main()
