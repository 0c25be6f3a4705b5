"""Chromium for tests: found here, else skipped with a reason, or failed where CI says so.

Every page remembers what the browser complained about, so that a test can ask that it did not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.skips import unavailable

ROOT = Path(__file__).resolve().parents[2]
AXE = Path("axe-core") / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
Theme = Literal["light", "dark"]
LOOKS: tuple[tuple[int, Theme], ...] = ((1440, "light"), (400, "dark"))
"""Widths in pixels and colours that a page is looked at in."""
TIMEOUT = 1000 * int(os.environ.get("EVOSEARCH_BROWSER_SECONDS", "30"))
"""Milliseconds that anything may take; a machine that is busy with other work needs more."""


def chromium() -> str:
    """The browser's program."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    return unavailable("needs Chromium (Debian: apt-get install chromium)")


def axe_source() -> str:
    """The accessibility checker's script, from where `.ci/run` has npm put it."""
    for folder in (ROOT / "build" / "npm" / "node_modules", ROOT / "node_modules"):
        if (folder / AXE).is_file():
            return (folder / AXE).read_text(encoding="utf-8")
    return unavailable("needs axe-core (cd build/npm && npm install axe-core)")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser with WebGL in software."""
    program = chromium()
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield made
        made.close()


class Visit:
    """A page and what the browser said about it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(TIMEOUT)
        page.on("console", self._console)
        page.on("pageerror", lambda err: self.complaints.append(f"error: {err}"))

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def assert_quiet(self) -> None:
        """Fail if a script failed or the console holds an error."""
        assert not self.complaints, self.complaints

    def serious(self, source: str) -> list[str]:
        """Serious and critical violations that axe-core finds, in a line each."""
        self.page.evaluate(source)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
            for one in found["violations"] if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]  # fmt: skip


def until(page: Page, function: str, seconds: float = TIMEOUT / 1000) -> None:
    """Waits until the JavaScript function returns something true.

    Asks from here: a poll of the browser's own would make code from text, which the policy forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(function):
        assert time.monotonic() < end, f"it did not come to {function}"
        page.wait_for_timeout(100)


def settled(page: Page) -> None:
    """Waits until nothing loads and every chart of the page shows something.

    What a test does before that meets a page whose rows and charts are still on their way, and are
    put in order once more when the chart's data comes.
    """
    expect(page.locator("main .card").first).to_be_visible(timeout=TIMEOUT)
    until(
        page,
        """() => !document.querySelector('main [aria-busy=true]')
            && [...document.querySelectorAll('main .plot')].every(one => one.childElementCount)""",
    )


def table_settled(page: Page) -> None:
    """Waits for the rows of a search's table, and for all else of its page."""
    expect(page.locator(".t-body .t-row").first).to_be_visible(timeout=TIMEOUT)
    settled(page)
    expect(page.locator(".t-foot")).to_have_text(re.compile("[0-9]"), timeout=TIMEOUT)


@contextmanager
def visit(made: Browser, **options: Any) -> Iterator[Visit]:
    """A fresh visitor; ``options`` are those of a browser context.

    Endless animations would be drawn by the processor for as long as a test looks.
    """
    usual = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
    context = made.new_context(**usual | options)
    try:
        yield Visit(context.new_page())
    finally:
        for page in context.pages:  # an answer on its way would fail whoever comes next
            page.unroute_all(behavior="ignoreErrors")
        context.close()


@contextmanager
def controller(folder: Path, seconds: float = 0.05) -> Iterator[subprocess.Popen[bytes]]:
    """A controller process with simulated workers over the folder's store."""
    words = ("-m", "tests.support.simulated_controller", f"{folder}/store.db", "simulated")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words, str(seconds)], env=environment, cwd=folder,
            stdin=subprocess.PIPE, stdout=log, stderr=log,  # it ends when its input does
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
            assert process.stdin is not None
            process.stdin.close()
