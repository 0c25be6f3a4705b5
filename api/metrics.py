"""Counts for Prometheus, in its text format; small enough to need no library."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by route and status, their seconds, and what others set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def request(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count one request under its route, never under its path: paths are without end."""
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        place = next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        with self._lock:
            self._requests[method, route, status] += 1
            self._buckets[route][place] += 1
            self._seconds[route] += seconds

    def text(self, gauges: Iterable[tuple[str, str, Mapping[str, str], float]]) -> str:
        """All counts, and gauges of (name, help, labels, value)."""
        with self._lock:
            requests = sorted(self._requests.items())
            buckets = {route: list(counts) for route, counts in sorted(self._buckets.items())}
            seconds = dict(self._seconds)
        lines = ["# HELP evosearch_requests_total Requests answered.",
                 "# TYPE evosearch_requests_total counter"]  # fmt: skip
        for (method, route, status), count in requests:
            labels = {"method": method, "route": route, "status": str(status)}
            lines.append(f"evosearch_requests_total{_labels(labels)} {count}")
        name = "evosearch_request_seconds"
        lines += [f"# HELP {name} Time to answer.", f"# TYPE {name} histogram"]
        for route, counts in buckets.items():
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                lines.append(f"{name}_bucket{_labels({'route': route, 'le': bound})} {total}")
            lines.append(f"{name}_sum{_labels({'route': route})} {seconds[route]:.6f}")
            lines.append(f"{name}_count{_labels({'route': route})} {total}")
        return "\n".join([*lines, *_gauges(gauges)]) + "\n"


_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


def _gauges(gauges: Iterable[tuple[str, str, Mapping[str, str], float]]) -> Iterable[str]:
    told: set[str] = set()
    for name, text, labels, value in gauges:
        if name not in told:
            told.add(name)
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} gauge"
        yield f"{name}{_labels(labels)} {value:g}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())
    return "{" + inner + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
