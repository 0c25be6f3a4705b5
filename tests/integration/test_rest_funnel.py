"""The funnel: stages that a search has, what they save, and that each bar lists its candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from db.sql_store import SqlStore
from evosearch.config import Hurdles
from evosearch.events import CandidateRejected, EnqueuedRefused, Skipped
from evosearch.records import CheckRun, Rejection
from tests.integration.test_rest_charts import NAME
from tests.support.events import CREATED, checks, failed, graph, queued, rejected
from tests.support.service import running
from tests.support.standings import Story

THROWN = ("signal", "signal", "unpromising", "quality", "not_finite", "stability", "hurdle",
          "too_slow")  # fmt: skip
"""Codes of rejected candidates; the one that is not finite is so after quality's first steps."""
BY = {"unpromising": "surrogate", "not_finite": "quality", "too_slow": "training"}


def thrown(birth: int, code: str) -> CandidateRejected:
    """A worker's rejection with the checks that led to it."""
    verdict = Rejection(code=code, detail="")
    if code == "signal":
        return rejected(birth, code)
    passed = checks(birth)
    check: Any = {"hurdle": "training"}.get(code, BY.get(code, code))
    if code in ("unpromising", "too_slow"):
        ran = passed[:1]
    else:
        run = CheckRun(check=check, anchor="resnet", seconds=0.2, rejection=verdict)
        ran = (*passed[: 1 + (check != "quality")], run)
    return CandidateRejected(birth=birth, rejection=verdict, checks=ran, seconds=0.6)


def written(folder: Path, created: Any = CREATED) -> None:
    """A search with an end of every kind."""
    store = SqlStore(f"{folder}/store.db")
    story = Story(store, NAME, created=created)
    story.baselines()
    story.many(5)
    for code in THROWN:
        story.birth += 1
        story.write(queued(story.birth, origin="enqueued"), thrown(story.birth, code))
    story.birth += 1
    story.write(queued(story.birth), failed(story.birth))
    story.repeated(1)
    skipped = Skipped(counts={"own_check": 40, "no_spatial": 4, "repeat": 100})
    story.birth += 1
    story.write(queued(story.birth, skipped=skipped))
    for code in ("own_check", "not_finite"):
        story.birth += 1
        story.write(EnqueuedRefused(birth=story.birth, graph=graph(story.birth),
                                    rejection=Rejection(code=code)))  # fmt: skip
    story.flush()
    store.close()


def test_every_bar_lists_its_candidates(tmp_path: Path) -> None:
    written(tmp_path)
    with running(tmp_path) as service:
        base = f"{service.url}/api/v1/searches/{NAME}"
        found = httpx.get(f"{base}/funnel/path").json()["bars"]
        bars = {one["stage"]: one for one in found}
        counts = {
            "proposed": 15 + 144 + 5 * 9 + 2, "own_checks": 15 + 100 + 5 * 9 + 1, "fresh": 15,
            "signal": 11, "surrogate": 10, "quality": 8, "stability": 7, "hurdles": 6,
            "evaluated": 5,
        }  # fmt: skip
        assert {stage: bars[stage]["count"] for stage in counts} == counts
        assert list(bars) == [*counts, "front"]
        assert bars["proposed"]["filter"] is bars["own_checks"]["filter"] is None
        for stage, bar in bars.items():
            if bar["filter"] is None:
                continue
            query = parse_qs(bar["filter"]) | {"limit": ["500"]}
            listed = httpx.get(f"{base}/candidates", params=query).json()
            assert len(listed["candidates"]) == bar["count"], stage
            assert {one["state"] for one in listed["candidates"]} <= {
                "evaluated", "rejected", *(("failed", "queued") if stage == "fresh" else ())
            }  # fmt: skip
        by = {code: BY.get(code, code) for code in THROWN}
        for code, name in {**by, "own_check": "controller"}.items():
            query = {"where": f"rejected_by = '{name}' and rejection_code = '{code}'"}
            listed = httpx.get(f"{base}/candidates", params=query).json()["candidates"]
            assert [one["rejection_code"] for one in listed] == [code] * max(1, THROWN.count(code))


def test_stages_stand_where_a_search_has_them(tmp_path: Path) -> None:
    checks = CREATED.config.checks.model_copy(update={"hurdles": Hurdles(steps=(20,))})
    config = CREATED.config.model_copy(update={"checks": checks})
    store = SqlStore(f"{tmp_path}/store.db")
    for name, created in ((NAME, CREATED), ("other001", CREATED.model_copy(
            update={"config": config}))):  # fmt: skip
        story = Story(store, name, created=created)
        story.baselines()
        story.many(3)
        story.flush()
    store.close()
    with running(tmp_path) as service:
        plain, with_hurdles = (
            [one["stage"] for one in
             httpx.get(f"{service.url}/api/v1/searches/{name}/funnel/path").json()["bars"]]
            for name in (NAME, "other001")
        )  # fmt: skip
        assert plain == [
            "proposed",
            "fresh",
            "signal",
            "quality",
            "stability",
            "evaluated",
            "front",
        ]
        assert with_hurdles == [*plain[:5], "hurdles", *plain[5:]]


def test_what_hurdles_and_own_checks_save(tmp_path: Path) -> None:
    written(tmp_path)
    with running(tmp_path) as service:
        base = f"{service.url}/api/v1/searches/{NAME}"
        bars = {one["stage"]: one for one in httpx.get(f"{base}/funnel/path").json()["bars"]}
        each = bars["quality"]["saved_hours"] / 2  # it threw out two
        assert each > 0
        assert bars["hurdles"]["saved_hours"] == pytest.approx(max(0.0, each - 0.6 / 3600))
        share = bars["fresh"]["count"] / bars["own_checks"]["count"]
        assert bars["own_checks"]["saved_hours"] == pytest.approx(41 * each * share)
        assert bars["proposed"]["saved_hours"] is None
