"""REST under pressure and in doubt: late commands, busy helper, guessed tokens, many searches."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import make_app
from api.aside import THREADS, WAITING
from api.estimate import estimate
from api.logs import set_up
from api.rest.schemas import Estimate
from api.settings import load_settings
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.tokens import Tokens
from evosearch.client import Client
from evosearch.config import Budget, Confirmation, Space
from evosearch.events import PhaseEntered, StatusChanged
from tests.support.events import CREATED
from tests.support.service import SEARCH, fill, running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = SqlStore(f"{tmp_path}/store.db")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [("enqueue", {"formula": "tanh(x)"}), ("extend", {"evaluations": 9}),
     ("candidates/{birth}/remeasure", {"seeds": 1}), ("", {"budget": 9, "title": "mine"})],
)  # fmt: skip
def test_commands_that_come_too_late_are_refused_with_the_reason(
    tmp_path: Path, store: SqlStore, path: str, body: dict[str, Any]
) -> None:
    truth = fill(store, 60)
    lease = store.acquire(SEARCH, "filler", 60)
    store.append(lease, [PhaseEntered(phase="confirm", chosen=())])
    path = path.format(birth=min(truth.front))
    with running(tmp_path) as service:
        url = f"{service.url}/api/v1/searches/{SEARCH}"
        method = "POST" if path else "PATCH"
        answer = httpx.request(method, f"{url}/{path}".rstrip("/"), json=body)
        assert answer.status_code == 409, answer.text
        assert "in phase confirm" in answer.json()["detail"]
        assert httpx.get(url).json()["title"] != "mine"
        assert httpx.post(f"{url}/pause").status_code == 202
    assert [one.command.kind for one in store.commands(lease)] == ["pause"]


def test_a_busy_helper_keeps_no_page_waiting(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 5)
    go, asked, codes = threading.Event(), [], []

    def slow(do: str, **request: Any) -> dict[str, Any]:
        asked.append(do)
        assert go.wait(60)
        return {"facts": {}, "checks": []}

    with running(tmp_path) as service:
        service.app.service.helper.ask = slow

        def check() -> None:
            answer = httpx.post(
                f"{service.url}/api/v1/layers/check", json={"formula": "tanh(x)"}, timeout=90
            )
            codes.append((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=check) for _ in range(60)]
        for thread in threads:
            thread.start()
        turned_away = 60 - THREADS - WAITING
        until = time.monotonic() + 60
        while len(codes) < turned_away and time.monotonic() < until:
            time.sleep(0.02)
        assert codes == [(503, "5")] * turned_away
        assert len(asked) == THREADS
        url = f"{service.url}/api/v1/searches/{SEARCH}"
        assert httpx.get(url, timeout=5).status_code == 200
        with httpx.stream("GET", f"{url}/events/stream?after=0", timeout=5) as response:
            assert any(line.startswith("data: ") for line in response.iter_lines())
        go.set()
        for thread in threads:
            thread.join()
    assert sorted(codes)[: THREADS + WAITING] == [(200, None)] * (THREADS + WAITING)


def test_guessed_tokens_soon_cost_no_query(tmp_path: Path, store: SqlStore) -> None:
    token = Tokens(store).create("mine", "read")[1]
    flags = {"require_token": True, "rate_per_minute": 1, "rate_burst": 20}
    with running(tmp_path, **flags) as service:
        checks: list[str] = []
        check = service.app.service.access._tokens.check
        service.app.service.access._tokens.check = lambda text: (checks.append(text), check(text))[
            1
        ]
        url = f"{service.url}/api/v1/catalog"

        def status(text: str | None) -> int:
            headers = {"Authorization": f"Bearer {text}"} if text else {}
            return httpx.get(url, headers=headers).status_code

        assert status(token) == 200
        codes = [status(f"evs_{number}_x") for number in range(40)]
        assert codes == [401] * 20 + [429] * 20
        assert len(checks) == 21
        assert status(None) == 429
        assert status(token) == 200, "who was let in before is let in still"
        assert httpx.get(service.url + "/healthz").status_code == 200


def test_an_estimate_bounds_what_no_graph_passes_and_tells_what_does_not_count(
    tmp_path: Path, store: SqlStore
) -> None:
    fill(store)
    service = make_app(load_settings({"db": f"sqlite:///{tmp_path}/store.db"})).service
    space = Space(where="shift_invariant and live_nodes > 60", template="x * f(x)")
    evolution = CREATED.config.evolution.model_copy(update={"operators": {"swap": 1.0}})
    config = CREATED.config.model_copy(update={"space": space, "evolution": evolution})
    told = estimate(service, config)
    found = {one.name: one for one in told.space}
    assert found["where"].below == 3 / found["where"].came
    assert found["layers"].below is None
    assert [note.partition(" do not")[0] for note in told.notes] == ["evolution.operators"]
    assert estimate(service, CREATED.config).notes == []


def test_an_estimate_has_each_condition_and_says_that_it_leaves_own_checks_out(
    tmp_path: Path, store: SqlStore
) -> None:
    service = make_app(load_settings({"db": f"sqlite:///{tmp_path}/store.db"})).service
    space = Space(where="pointwise and live_nodes <= 4", checks=("mine", "theirs"), deny=("exp",))
    told = estimate(service, CREATED.config.model_copy(update={"space": space}))
    names = [one.name for one in told.space]
    assert names[0] == "deny"
    assert names[-4:-1] == ["where pointwise", "where live_nodes <= 4", "where"]
    (note,) = told.notes
    assert note.startswith("space.checks (mine, theirs) are in none of these shares")
    assert "evosearch search start --dry-run counts them" in note


def test_hours_follow_whichever_limit_comes_first(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    monkeypatch.setattr("api.estimate.space_stages", lambda config: [])
    flags = {"db": f"sqlite:///{tmp_path}/store.db", "workers": 2, "gpus_per_worker": 0.5}
    service = make_app(load_settings(flags)).service
    alone = CREATED.config.model_copy(update={"confirmation": Confirmation(enabled=False)})

    def told(**limits: Any) -> Estimate:
        budget = Budget(evaluations=10**6, **limits)
        return estimate(service, alone.model_copy(update={"budget": budget}))

    free = told()
    assert free.worker_hours is not None
    assert free.worker_hours > 100
    assert told(hours=3).worker_hours == pytest.approx(6)
    assert told(hours=3).hours == pytest.approx(3)
    assert told(gpu_hours=3).worker_hours == pytest.approx(6)
    assert told(gpu_hours=3).gpu_hours == pytest.approx(3)
    steps = told(train_steps=free.train_steps // 50)
    assert steps.worker_hours == pytest.approx(free.worker_hours / 50)
    assert told(hours=3, gpu_hours=1, train_steps=10**9).gpu_hours == pytest.approx(1)
    assert told(hours=10**9, gpu_hours=10**9).worker_hours == free.worker_hours
    assert steps.train_steps == free.train_steps, "a count, whatever ends the search before"
    service.close()


def test_no_page_is_longer_than_the_setting_allows(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 60)
    with running(tmp_path, max_page=7) as service:
        url = f"{service.url}/api/v1/searches/{SEARCH}"

        def rows(path: str, **params: int) -> list[dict[str, Any]]:
            answer = httpx.get(f"{url}/{path}", params=params).raise_for_status().json()
            found: list[dict[str, Any]] = answer["members" if path == "population" else path]
            return found

        for path in ("candidates", "events", "population"):
            assert len(rows(path)) == len(rows(path, limit=500)) == 7, path
            assert len(rows(path, limit=3)) == 3, path
        assert [one["seq"] for one in rows("events", after=7)] == [*range(8, 15)]
        last = store.search(SEARCH).last_seq
        for asked, seqs, more in (
            ({"after": last - 7}, range(last - 6, last + 1), False),
            ({"after": last - 8}, range(last - 7, last), True),
            ({"newest": True, "before": 8}, range(1, 8), False),
            ({"newest": True, "before": 9}, range(2, 9), True),
        ):
            page = httpx.get(f"{url}/events", params=asked).json()
            assert [one["seq"] for one in page["events"]] == [*seqs]
            assert page["more"] is more


def test_searches_come_in_pages(tmp_path: Path, store: SqlStore) -> None:
    writes, names = ServiceWrites(store), [f"s{number:07}" for number in range(23)]
    for number, name in enumerate(names):
        about = Notes(("odd_%",) if number % 2 else ("even",), archived=number % 5 == 0)
        writes.create(name, "", CREATED, about)
    lease = store.acquire(names[3], "me", 60)
    store.append(lease, [StatusChanged(status="paused")])
    with running(tmp_path) as service:

        def pages(**params: Any) -> list[str]:
            found: list[str] = []
            with httpx.Client(base_url=service.url + "/api/v1") as http:
                while True:
                    told = http.get("/searches", params=params).json()
                    assert len(told["searches"]) <= params["limit"]
                    found += [one["id"] for one in told["searches"]]
                    if told["next"] is None:
                        return found
                    params["cursor"] = told["next"]
                    if len(found) == 5:  # one that comes meanwhile moves no page
                        writes.create(f"late{len(found)}{params['limit']}", "", CREATED, Notes())

        assert pages(limit=5) == names[::-1]
        assert pages(limit=7, tag="odd_%") == names[21::-2]
        assert pages(limit=7, tag="odd__") == []
        assert pages(limit=2, archived=True) == names[20::-5]
        assert set(pages(limit=4, archived=False)) >= set(names) - set(names[::5])
        assert pages(limit=3, status="paused") == [names[3]]
        bad = httpx.get(f"{service.url}/api/v1/searches", params={"cursor": "x"})
        assert bad.status_code == 400
        with Client(service.url) as client:
            assert len(client.searches()) == 24


def test_every_error_id_stands_in_the_quietest_log(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 5)
    out, root = io.StringIO(), logging.getLogger()
    before, level = [*root.handlers], root.level
    try:
        set_up("json", "error")
        root.handlers[0].setStream(out)  # type: ignore[attr-defined]
        with running(tmp_path) as service:
            url = f"{service.url}/api/v1/searches/{SEARCH}/candidates/987654321"
            told = httpx.get(url).json()
            quiet = httpx.get(f"{service.url}/api/v1/searches")
            assert quiet.status_code == 200
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        for name in ("evosearch.web", "evosearch.access"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert line["error_id"] == told["error_id"]
    assert (line["search"], line["candidate"], line["status"]) == (SEARCH, "987654321", 404)


def test_the_access_log_names_search_candidate_and_caller(tmp_path: Path, store: SqlStore) -> None:
    from api.logs import JsonLines

    fill(store, 5)
    token, text = Tokens(store).create("mine", "read")
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    log, keep = logging.getLogger("evosearch.access"), Keep()
    log.addHandler(keep)
    log.setLevel("INFO")
    try:
        with running(tmp_path, require_token=True) as service:
            headers = {"Authorization": f"Bearer {text}"}
            for path in (f"searches/{SEARCH}/candidates/3", "searches", "searches/dry-run"):
                httpx.get(f"{service.url}/api/v1/{path}", headers=headers)
    finally:
        log.removeHandler(keep)
        log.setLevel(logging.NOTSET)
    named = [{name: one.get(name) for name in ("search", "candidate", "caller")} for one in lines]
    nothing = {"search": None, "candidate": None, "caller": token.id}
    assert named == [nothing | {"search": SEARCH, "candidate": "3"}, nothing, nothing]
