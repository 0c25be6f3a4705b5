"""Speed of what charts are drawn from: ``python -m tests.benchmarks.bench_charts``.

On a large search: how long a web process takes to read its log once, then the median time and size
of every answer through the app (no socket), right after an event came in, so that nothing is
remembered. Seconds of the CPU stand beside those of the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from api.app import make_app
from api.settings import load_settings
from db.sql_store import SqlStore
from tests.benchmarks.bench_dashboard import fill
from tests.benchmarks.bench_store import ID
from tests.benchmarks.record import write_result

PATHS = (
    "/candidates?sort=-gain_low&state=evaluated&limit=100", "/candidates?where=gain_low%20%3E%200",
    "/candidates?sort=-mean_score&state=evaluated&limit=100",
    "/verdict", "/scatter", "/scatter?x=memory&y=score.resnet", "/progress",
    "/funnel/path", "/throughput", "/simplest", "/primitive-shares", "/ages", "/since?event=1000",
    "/config-difference", "/candidates/1000/about", "/candidates/1000/trainings",
    "/candidates/1000/family", "/scatter?range=gain:-1..-0.2",
    "/candidates?range=gain:-1..-0.2&sort=-gain_low&state=evaluated&limit=100",
    "/funnel/path?range=gain:-1..-0.2", "/failures", "/events?newest=true&kind=job_lost",
)  # fmt: skip


async def measure(path: Path, rounds: int) -> dict[str, Any]:
    """Figures of every answer."""
    app = make_app(load_settings({"db": f"sqlite:///{path}", "rate_per_minute": 10**7}))
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        base = f"/api/v1/searches/{ID}"

        async def ask(asked: str) -> tuple[float, float, int]:
            clock, cpu = time.perf_counter(), time.process_time()
            answer = await client.get(base + asked)
            answer.raise_for_status()
            spent = time.perf_counter() - clock, time.process_time() - cpu
            return *spent, int(answer.headers["content-length"])

        await client.get("/api/v1/searches")
        clock, cpu, _ = await ask("/verdict")
        found["first look, seconds"] = {"clock": round(clock, 3), "cpu": round(cpu, 3)}
        for asked in PATHS:
            times = [await ask(asked) for _ in range(rounds)]
            found[asked] = {
                "median_ms": round(1e3 * statistics.median(one[0] for one in times), 2),
                "cpu_ms": round(1e3 * statistics.median(one[1] for one in times), 2),
                "bytes": times[-1][2],
            }
    app.service.close()
    return found


def main() -> None:
    """Fill, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dry", action="store_true", help="print, write no result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        fill(path, options.candidates)
        store = SqlStore(str(path))
        events = store.search(ID).last_seq
        store.close()
        found = asyncio.run(measure(path, options.rounds))
    data = {"candidates": options.candidates, "events": events, "answers": found}
    for name, figures in found.items():
        print(f"{name:44} {figures}")
    if not options.dry:
        print(write_result("charts", data))


if __name__ == "__main__":
    main()
