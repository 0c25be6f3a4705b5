"""Writes pictures of every page of the dashboard, from a real search: ``DATABASE SEARCH [FOLDER]``.

Serves a copy of the SQLite file, so that nothing of the search changes; needs Chromium and the
development dependencies. Look at what it writes before it goes anywhere.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
DESKTOP, TALL, PHONE = (1440, 900), (1440, 1480), (400, 860)
SHOTS = (
    ("searches", "/", DESKTOP, "light"),
    ("new-search", "/new", DESKTOP, "light"),
    ("search", "/search/{search}", TALL, "light"),
    ("search-dark", "/search/{search}?c={leader}", DESKTOP, "dark"),
    ("search-phone", "/search/{search}", PHONE, "light"),
    ("search-pareto", "/search/{search}?chart=pareto&tab=simplest", TALL, "light"),
    ("lineage", "/search/{search}?tab=lineage", TALL, "light"),
    ("report", "/search/{search}/report", TALL, "light"),
    ("candidate", "/search/{search}/candidate/{leader}", TALL, "light"),
    ("candidate-dark", "/search/{search}/candidate/{leader}", DESKTOP, "dark"),
    ("compare", "/compare?{all}", TALL, "light"),
    ("try-a-layer", "/layer?formula=x%20*%20sigmoid(v1%20*%20x)%20%2F%20std_group(x)", DESKTOP,
     "light"),
)  # fmt: skip
"""Name, address, size in pixels, and theme of each picture."""
ALSO = {"try-a-layer": ".check-verdict"}
"""Picture -> what comes last on its page."""
WAIT = 120_000
SETTLED = """() => !document.querySelector('main [aria-busy=true]')
  && [...document.querySelectorAll('main .plot')].every(
    one => one.querySelector('.main-svg, .state') || !one.offsetParent)"""


@contextmanager
def service(database: Path) -> Iterator[str]:
    """The address of a service over a copy of the database."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        copy = Path(folder) / "copy.db"
        shutil.copy(database, copy)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = ["-c", "from api.cli import main; main()"]
        subprocess.run([sys.executable, *words, "db", "upgrade", "--db", str(copy)], check=True,
                       cwd=ROOT)  # fmt: skip
        flags = ["serve", "--no-controller", "--db", str(copy), "--port", str(port)]
        process = subprocess.Popen([sys.executable, *words, *flags], cwd=ROOT)
        try:
            yield wait_for(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str) -> str:
    """The address, once it answers."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return url
        except httpx.TransportError:
            time.sleep(0.3)
    raise SystemExit("the service does not answer")


def settle(page: Page) -> None:
    """Waits until nothing loads and every chart is drawn."""
    page.locator("main .card").first.wait_for()
    until = time.monotonic() + WAIT / 1000
    # Asked from here: the page's policy forbids the browser's own way of waiting for a condition.
    while not page.evaluate(SETTLED) and time.monotonic() < until:
        page.wait_for_timeout(200)
    page.wait_for_timeout(1500)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("search")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "screenshots")
    asked = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("needs Chromium")
    asked.folder.mkdir(parents=True, exist_ok=True)
    with service(asked.database) as url, sync_playwright() as playwright:
        verdict = httpx.get(f"{url}/api/v1/searches/{asked.search}/verdict", timeout=60).json()
        listed = httpx.get(f"{url}/api/v1/searches", timeout=60).json()["searches"]
        every = "&".join(f"search={one['id']}" for one in listed)
        places = {"search": asked.search, "leader": verdict["leader"]["birth"], "all": every}
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, path, (width, height), theme in SHOTS:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=theme,  # type: ignore[arg-type]
            )  # fmt: skip
            page.set_default_timeout(WAIT)
            page.goto(url + path.format(**places))
            if name in ALSO:
                page.locator(ALSO[name]).first.wait_for()
            settle(page)
            page.screenshot(path=asked.folder / f"{name}.png")
            page.close()
            print(asked.folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
