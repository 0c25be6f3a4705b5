"""Speed of the service: ``python -m tests.benchmarks.bench_service [--candidates N]``.

A web process over a large search that a controller with simulated workers runs meanwhile, at so
many events a second, while another controller trains a quickstart on Ray workers as the product
starts them, at their nice value: p95 of every page with ten clients of a request a second each, the
delay of events at many event streams, each of which must get every event once and in order, and the
web process's memory. Then, of a fresh `evosearch serve --quickstart`: the seconds to its first
event, and how soon it obeys. Each target is judged in the result.
Figures of a busy machine are worth little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

from api.settings import load_settings
from db.controllers import Controllers
from db.queries import Queries
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.events import Created
from evosearch.ports import Extend
from evosearch.presets import load_preset
from tests.benchmarks.bench_store import ID, Search
from tests.benchmarks.record import write_result
from tests.benchmarks.service_start import ROOT, starts
from tests.support.events import ANCHORS, CONFIG
from tests.support.service import OFFERS
from tests.support.web_process import WebProcess

SPAWN = multiprocessing.get_context("spawn")
LOAD = "load0001"
EVENTS_OF_A_JOB = 1.3
SEARCH = f"/api/v1/searches/{ID}"
PAGES = {
    "searches": "/api/v1/searches",
    "search": SEARCH,
    "first page": f"{SEARCH}/candidates?limit=50",
    "page by score": f"{SEARCH}/candidates?limit=50&sort=-mean_score",
    "page of evaluated": f"{SEARCH}/candidates?limit=50&state=evaluated",
    "page with where": f"{SEARCH}/candidates?where=batch_independent+and+live_nodes+%3C%3D+6",
    "page by formula": f"{SEARCH}/candidates?limit=50&text=tanh",
    "page of the best": f"{SEARCH}/candidates?limit=50&state=evaluated&sort=-gain_low",
    "page by step time": f"{SEARCH}/candidates?limit=50&where=step_time+%3C%3D+1.3",
    "page by an anchor": f"{SEARCH}/candidates?limit=50&sort=-score.{ANCHORS[0]}",
    "events": f"{SEARCH}/events?newest=true&limit=200",
    "front": f"{SEARCH}/front",
    "front's history": f"{SEARCH}/front/history",
    "funnel": f"{SEARCH}/funnel",
    "population": f"{SEARCH}/population",
    "hypervolume": f"{SEARCH}/hypervolume",
    "costs": f"{SEARCH}/costs",
    "candidate": f"{SEARCH}/candidates/10",
}
LIMITS = {"page_ms": 100.0, "delay_ms": 1000.0, "web_mb": 300.0, "first_event_s": 20.0}
"""Of the 95th percentile of each page and of the events' delays, and of the other two at most."""


def filled(path: Path, candidates: int) -> None:
    """A store with one large search that goes on for long, and a second one that is trained."""
    store = SqlStore(str(path))
    search = Search(store)
    search.grow(candidates)
    store.send(ID, Extend(evaluations=10**9))
    Controllers(store).register("bench", "here", os.getpid(), "inline", OFFERS)
    store.close()


def process(*words: str) -> subprocess.Popen[bytes]:
    """This Python with those words; it ends with this process, whose input it has."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *words], env=env, stdin=subprocess.PIPE, cwd=tempfile.gettempdir()
    )


def end(running: subprocess.Popen[bytes]) -> None:
    """Asks a controller to end, and waits for it."""
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=120)


def last_event(path: Path, search_id: str = ID) -> int:
    """Number of the search's last event."""
    store = SqlStore(str(path))
    try:
        return store.search(search_id).last_seq
    finally:
        store.close()


def compared(path: Path) -> bool:
    """Whether the large search's candidates have baselines to be compared with."""
    store = SqlStore(str(path))
    try:
        trained = {(one.baseline, one.anchor) for one in Queries(store).baselines(ID)}
    finally:
        store.close()
    return len(trained) >= len(CONFIG.baselines) * len(ANCHORS)


def wait(true: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.2)


def train(path: Path, workers: int) -> subprocess.Popen[bytes] | None:
    """A controller whose Ray workers train a quickstart; None for no workers."""
    if not workers:
        return None
    store = SqlStore(str(path))
    config = load_preset("quickstart", ["budget.evaluations=100000", "budget.hours=9"], seed=1)
    ServiceWrites(store).create(LOAD, "load", Created(config=config), Notes())
    words = ("--workers", str(workers), "--max-searches", "1")  # the large one is another's
    made = process("api.cli", "controller", "--db", str(path), *words)
    wait(
        lambda: any(e.event.kind == "evaluation_recorded" for e in store.events(LOAD)),
        "the first training",
    )
    store.close()
    return made


def pages(url: str) -> dict[str, str]:
    """All pages, that behind the one of the best among them, by its cursor."""
    first = PAGES["page of the best"]
    told = httpx.get(url + first, timeout=60).raise_for_status().json()
    return PAGES | {"second page of the best": f"{first}&cursor={told['next']}"}


def ask(url: str, clients: int, seconds: float, told: Connection) -> None:
    """Clients of a request a second each, round the pages; tells milliseconds by page."""
    spans: dict[str, list[float]] = defaultdict(list)
    paths = pages(url)

    def client(number: int) -> None:
        names, until = [*paths], time.monotonic() + seconds
        time.sleep(number / clients)
        with httpx.Client(base_url=url, timeout=60) as http:
            http.get("/healthz")
            while (begun := time.monotonic()) < until:
                name = names[number % len(names)]
                number += 1
                http.get(paths[name]).raise_for_status()
                spans[name].append(1e3 * (time.monotonic() - begun))
                time.sleep(max(0.0, begun + 1.0 - time.monotonic()))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(dict(spans))


def listen(url: str, streams: int, after: int, told: Connection) -> None:
    """Event streams, each read by a task; tells delays in ms, and the numbers each got.

    Delays are those of events that happened once all streams were open.
    """

    async def stream(delays: list[tuple[datetime, float]], got: list[int]) -> datetime:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
        path = f"{SEARCH}/events/stream?after={after}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        opened = datetime.max.replace(tzinfo=UTC)
        try:
            await reader.readline()
            opened = datetime.now(UTC)
            while True:
                line = await reader.readline()
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                got.append(event["seq"])
                at = datetime.fromisoformat(event["at"])
                delays.append((at, 1e3 * (datetime.now(UTC) - at).total_seconds()))
        except asyncio.CancelledError:
            writer.close()
        return opened

    async def run() -> tuple[list[float], list[list[int]]]:
        delays: list[tuple[datetime, float]] = []
        got: list[list[int]] = [[] for _ in range(streams)]
        tasks = [asyncio.create_task(stream(delays, one)) for one in got]
        await asyncio.to_thread(told.recv)  # whoever knows that no event comes any more says so
        for task in tasks:
            task.cancel()
        begun = max(await asyncio.gather(*tasks))
        return [delay for at, delay in delays if at > begun], got

    told.send(asyncio.run(run()))


def p95(values: list[float]) -> float:
    """The 95th percentile, rounded to a tenth."""
    return round(statistics.quantiles(values, n=20)[-1], 1) if len(values) > 1 else float("nan")


def measure(folder: Path, told: argparse.Namespace) -> dict[str, Any]:
    """All figures of a web process over a large search."""
    path = folder / "store.db"
    filled(path, told.candidates)
    web, children = WebProcess(path), list[subprocess.Popen[bytes]]()
    try:
        web.start()
        idle = web.memory()
        before = last_event(path)
        # Most candidates are rejected: a job brings 1.4 to 1.7 events. Some more than asked for is
        # no harm.
        pace = str(EVENTS_OF_A_JOB / told.rate)
        search = process("tests.support.simulated_controller", str(path), "bench", pace, "2")
        children = [search]
        wait(lambda: last_event(path) > before, "the large search to go on")
        wait(lambda: compared(path), "the large search's baselines")
        load = train(path, told.workers)
        # The load ends first: it would go on with the large search.
        children = [load, search] if load else [search]
        figures = under_load(path, web, children, told)
        figures |= {
            "candidates": told.candidates, "clients": told.clients, "streams": told.streams,
            "ray_workers": told.workers, "nice": load_settings().worker_nice,
            "web_mib_idle": idle, "web_mib_then": web.memory(), "web_mib_peak": web.peak(),
            "web_has_loaded": web.loaded("torch", "ray"),
        }  # fmt: skip
    finally:
        for child in children:
            if child.poll() is None:
                end(child)
        web.close()
    return figures


def under_load(
    path: Path, web: WebProcess, children: list[subprocess.Popen[bytes]], told: argparse.Namespace
) -> dict[str, Any]:
    """Pages and streams while the search goes on; then its children end, in their order.

    Raises:
        RuntimeError: a stream missed an event, got one twice, or out of order.
    """
    after = last_event(path)
    asked, to_asked = SPAWN.Pipe(False)
    events, to_events = SPAWN.Pipe()
    others = [
        SPAWN.Process(target=ask, args=(web.url, told.clients, told.seconds, to_asked)),
        SPAWN.Process(target=listen, args=(web.url, told.streams, after, to_events)),
    ]
    begun = time.monotonic()
    for one in others:
        one.start()
    spans: dict[str, list[float]] = asked.recv()
    for child in children:
        end(child)
    seconds, last = time.monotonic() - begun, last_event(path)
    time.sleep(5.0)
    events.send("enough")
    delays, got = events.recv()
    for one in others:
        one.join()
    wrong = sum(numbers != [*range(after + 1, last + 1)] for numbers in got)
    if wrong:
        raise RuntimeError(f"{wrong} of {len(got)} streams did not get each event once, in order")
    return {
        "events": last - after, "events_per_s": round((last - after) / seconds, 2),
        "pages_ms": {name: {"n": len(found), "median": round(statistics.median(found), 1),
                            "p95": p95(found)} for name, found in sorted(spans.items())},
        "streams_with_each_event_once_in_order": len(got),
        "event_delay_p95_ms": p95(delays),
    }  # fmt: skip


def verdicts(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target of the service, what was measured, and whether it is met."""
    measured = {
        f"p95 of {name}, ms": (one["p95"], LIMITS["page_ms"])
        for name, one in figures["pages_ms"].items()
    }
    measured["p95 of the delay of events, ms"] = figures["event_delay_p95_ms"], LIMITS["delay_ms"]
    peak = round(figures["web_mib_peak"] * 2**20 / 1e6, 1)
    measured["memory of the web process at most, MB"] = peak, LIMITS["web_mb"]
    if figures["starts"]:
        slowest = figures["starts"]["first job queued"]["high"]
        measured["first event of a fresh start, s"] = slowest, LIMITS["first_event_s"]
    return {
        name: {"measured": value, "limit": limit, "met": value <= limit}
        for name, (value, limit) in measured.items()
    }


def main() -> None:
    """Fills a store, measures, prints the figures and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="Ray workers")
    parser.add_argument("--starts", type=int, default=3, help="fresh starts of the quickstart")
    parser.add_argument("--folder", type=Path, help="where the database is put meanwhile")
    parser.add_argument("--dry", action="store_true", help="print only")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        figures = measure(Path(folder), told)
    figures["starts"] = starts(told.starts)
    figures["load"] = round(os.getloadavg()[0], 1)
    figures["verdicts"] = verdicts(figures)
    print(json.dumps(figures, indent=1))
    if not told.dry:
        print(write_result("service", figures))


if __name__ == "__main__":
    main()
