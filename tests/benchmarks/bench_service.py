"""Speed of the service: ``python -m tests.benchmarks.bench_service [--candidates N]``.

A web process over a large search to which events are written meanwhile, with busy processes at
nice 10 in the place of workers: p95 of every page with ten clients of a request a second each, the
delay of events at many event streams, and the web process's memory. Then, of a fresh
`evosearch serve --quickstart`: the seconds to its first event, and how soon it obeys.
Figures of a busy machine are worth little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from db.controllers import Controllers
from db.sql_store import SqlStore
from tests.benchmarks.bench_store import ID, Log, Search
from tests.benchmarks.record import write_result
from tests.benchmarks.service_start import starts
from tests.support.service import OFFERS
from tests.support.web_process import WebProcess

SPAWN = multiprocessing.get_context("spawn")
SEARCH = f"/api/v1/searches/{ID}"
PAGES = {
    "searches": "/api/v1/searches",
    "search": SEARCH,
    "first page": f"{SEARCH}/candidates?limit=50",
    "page by score": f"{SEARCH}/candidates?limit=50&sort=-mean_score",
    "page of evaluated": f"{SEARCH}/candidates?limit=50&state=evaluated",
    "page with where": f"{SEARCH}/candidates?where=batch_independent+and+live_nodes+%3C%3D+6",
    "page by formula": f"{SEARCH}/candidates?limit=50&text=tanh",
    "front": f"{SEARCH}/front",
    "funnel": f"{SEARCH}/funnel",
    "population": f"{SEARCH}/population",
    "hypervolume": f"{SEARCH}/hypervolume",
    "costs": f"{SEARCH}/costs",
    "candidate": f"{SEARCH}/candidates/10",
}


def filled(path: Path, candidates: int) -> Log:
    """A store with one large search that nobody runs; returns what its log stands at."""
    store = SqlStore(str(path))
    search = Search(store)
    search.grow(candidates)
    Controllers(store).register("bench", "here", os.getpid(), "inline", OFFERS)
    store.close()
    return search.log


def write(path: Path, log: Log, rate: float, seconds: float) -> None:
    """So many events a second, each in a transaction of its own, as a running search writes."""
    store = SqlStore(str(path))
    lease = store.acquire(ID, "bench", 3600)
    begun, written = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        for event in log.both():
            store.append(lease, [event])
            written += 1
            time.sleep(max(0.0, begun + written / rate - time.monotonic()))
    store.close()


def burn() -> None:
    """Keeps a core busy at nice 10."""
    os.nice(10)
    square = np.ones((200, 200))
    while True:
        square = square @ square / 200.0


def ask(url: str, clients: int, seconds: float, told: Connection) -> None:
    """Clients of a request a second each, round the pages; tells milliseconds by page."""
    spans: dict[str, list[float]] = defaultdict(list)

    def client(number: int) -> None:
        names, until = [*PAGES], time.monotonic() + seconds
        time.sleep(number / clients)
        with httpx.Client(base_url=url, timeout=60) as http:
            http.get("/healthz")
            while (begun := time.monotonic()) < until:
                name = names[number % len(names)]
                number += 1
                http.get(PAGES[name]).raise_for_status()
                spans[name].append(1e3 * (time.monotonic() - begun))
                time.sleep(max(0.0, begun + 1.0 - time.monotonic()))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(dict(spans))


def listen(url: str, streams: int, after: int, seconds: float, told: Connection) -> None:
    """Event streams, each read by a task; tells delays in ms and how many streams were in order."""

    async def stream(delays: list[float]) -> bool:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
        path = f"{SEARCH}/events/stream?after={after}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        expected = after + 1
        try:
            while True:
                line = await reader.readline()
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if event["seq"] != expected:
                    return False
                expected += 1
                at = datetime.fromisoformat(event["at"])
                delays.append(1e3 * (datetime.now(UTC) - at).total_seconds())
        except asyncio.CancelledError:
            writer.close()
            return True

    async def run() -> tuple[list[list[float]], int]:
        delays: list[list[float]] = [[] for _ in range(streams)]
        tasks = [asyncio.create_task(stream(one)) for one in delays]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        return delays, sum(await asyncio.gather(*tasks))

    delays, in_order = asyncio.run(run())
    told.send((delays, in_order))


def p95(values: list[float]) -> float:
    """The 95th percentile, rounded to a tenth."""
    return round(statistics.quantiles(values, n=20)[-1], 1) if len(values) > 1 else float("nan")


def measure(folder: Path, told: argparse.Namespace) -> dict[str, Any]:
    """All figures of a web process over a large search."""
    path = folder / "store.db"
    log = filled(path, told.candidates)
    web = WebProcess(path)
    try:
        web.start()
        idle = web.memory()
        pages, to_pages = SPAWN.Pipe(False)
        events, to_events = SPAWN.Pipe(False)
        store = SqlStore(str(path))
        after = store.search(ID).last_seq
        store.close()
        seconds = told.seconds
        others = [
            SPAWN.Process(target=write, args=(path, log, told.rate, seconds + 2)),
            SPAWN.Process(target=ask, args=(web.url, told.clients, seconds, to_pages)),
            SPAWN.Process(target=listen,
                          args=(web.url, told.streams, after, seconds + 4, to_events)),
            *(SPAWN.Process(target=burn, daemon=True) for _ in range(told.burners)),
        ]  # fmt: skip
        for process in others:
            process.start()
        spans: dict[str, list[float]] = pages.recv()
        delays, in_order = events.recv()
        figures = {
            "candidates": told.candidates, "clients": told.clients, "streams": told.streams,
            "events_per_s": told.rate, "busy_processes_at_nice_10": told.burners,
            "pages_ms": {name: {"n": len(found), "median": round(statistics.median(found), 1),
                                "p95": p95(found)} for name, found in sorted(spans.items())},
            "events_told": sum(map(len, delays)),
            "events_each": sorted({len(one) for one in delays}),
            "streams_in_order": in_order,
            "event_delay_p95_ms": p95([one for each in delays for one in each]),
            "web_mib_idle": idle, "web_mib_then": web.memory(), "web_mib_peak": web.peak(),
            "web_has_loaded": web.loaded("torch", "ray"),
        }  # fmt: skip
        for process in others:
            process.terminate()
            process.join()
    finally:
        web.close()
    return figures


def main() -> None:
    """Fills a store, measures, prints the figures and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--burners", type=int, default=os.cpu_count())
    parser.add_argument("--starts", type=int, default=3, help="fresh starts of the quickstart")
    parser.add_argument("--folder", type=Path, help="where the database is put meanwhile")
    parser.add_argument("--dry", action="store_true", help="print only")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        figures = measure(Path(folder), told)
    figures["starts"] = starts(told.starts)
    figures["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(figures, indent=1))
    if not told.dry:
        print(write_result("service", figures))


if __name__ == "__main__":
    main()
