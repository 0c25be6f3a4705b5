"""What `es.search` made opens in the service: every figure of a search of a user's own task."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest

import evosearch as es
from api.app import make_app
from api.code_change import with_plugins
from api.helper import Helper
from api.offers import offers
from api.run import Run
from db.controllers import Controllers
from db.sql_store import SqlStore
from evosearch.events import Created
from evosearch.plugins import loaded, read_source
from tests.integration.test_own_rerun import ROW
from tests.support.events import CREATED
from tests.support.service import running

MY_TASK = Path(__file__).parents[1] / "support" / "my_task.py"
SMALL = {
    "task.steps": 6, "task.batch_size": 16, "task.select_rows": 60, "checks.stability.steps": 1,
    "checks.quality.accuracy": -9.0, "confirmation.top": 1, "confirmation.seeds": 1,
    "confirmation.tune_seeds": 1, "confirmation.final_seeds": 3,
    "confirmation.resamples": 50,
    "confirmation.learning_rates": [0.2],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def served(folder):
    run = es.search(
        [f"{MY_TASK}:TinySeq"], objectives=["parameters"], budget=3, pool="inline", settings=SMALL,
        db=f"sqlite:///{folder}/store.db", show=False,
    )  # fmt: skip
    run.close()
    patch = pytest.MonkeyPatch()
    patch.setenv("EVOSEARCH_PLUGINS", str(MY_TASK))
    store = SqlStore(f"{folder}/store.db")
    Controllers(store).register("here", "host", 1, "inline", offers())
    store.close()
    with (
        running(folder) as service,
        httpx.Client(base_url=service.url + "/api/v1", timeout=30) as client,
    ):
        yield run.id, client
    patch.undo()


def test_every_figure_is_served(served):
    search_id, http = served
    for path in ("", "/front", "/front/history", "/hypervolume", "/funnel", "/population",
                 "/costs", "/events", "/candidates", "/config.toml",
                 "/report.html", "/report.md"):  # fmt: skip
        answer = http.get(f"/searches/{search_id}{path}")
        assert answer.status_code == 200, (path, answer.text)
    shown = http.get(f"/searches/{search_id}").json()
    assert shown["config"]["task"]["anchors"][0]["objectives"][0]["unit"] == "bit/char"
    assert "bpc bit/char (lower)" in http.get(f"/searches/{search_id}/report.md").text
    assert shown["report"]["verdict"].startswith(("better", "not better"))
    front = http.get(f"/searches/{search_id}/front").json()["candidates"]
    assert set(front[0]["scores"]) == {"tiny-seq", "tiny-seq#parameters"}
    # The mean is that of the anchors' scores alone.
    assert front[0]["mean_score"] == pytest.approx(front[0]["scores"]["tiny-seq"])


def test_scores_are_those_of_a_candidates_page(served, folder):
    """Every seed of the front on *select*, in the objectives' units."""
    search_id, http = served
    store = SqlStore(f"{folder}/store.db")
    run = Run(store, search_id, lambda: None, show=False)
    births = sorted(run.state.front.members)
    traces = {one.name.partition(":")[0]: one for one in es.plot.scores(run).data}
    goal = run.config.objective("tiny-seq")
    shown = 0
    for birth in births:
        rows = http.get(f"/searches/{search_id}/candidates/{birth}/about").json()["scores"]
        known = [goal.value(score) for row in rows if row["anchor"] == "tiny-seq"
                 and row["split"] == "select" for score in row["scores"]]  # fmt: skip
        trace = traces["tiny-seq"]
        drawn = [y for x, y in zip(trace.x, trace.y, strict=True) if x == str(birth)]
        shown += len(drawn)
        assert all(any(one == pytest.approx(other) for other in known) for one in drawn)
    assert shown >= len(births) > 0
    front = {one.name: one for one in es.plot.front(run).data}
    told = {row["birth"]: row["scores"] for row in
            http.get(f"/searches/{search_id}/front").json()["candidates"]}  # fmt: skip
    assert len(front["front"].x) == len(told) == len(births)
    widest = sorted(run.config.objective("tiny-seq#parameters").value(one["tiny-seq#parameters"])
                    for one in told.values())  # fmt: skip
    assert sorted(front["front"].y) == pytest.approx(widest)
    evaluated = {birth: one.means()["tiny-seq"] for birth, one in run.state.members.items()
                 if one.evaluated}  # fmt: skip
    (lines,) = es.plot.parallel(run).data
    assert {int(one) for one in lines.ids} == set(evaluated)
    assert lines.dimensions[2].label == f"tiny-seq: {goal.label}"
    # Of the confirmed the chart shows the fresh seeds alone.
    drawn = dict(zip(map(int, lines.ids), lines.dimensions[2]["values"], strict=True))
    scores = {birth: goal.value(one) for birth, one in evaluated.items()}
    assert drawn == pytest.approx(scores, rel=0.05)
    others, best = es.plot.population(run).data
    assert sorted((*others.x, *best.x)) == list(range(len(evaluated)))
    (shares,) = es.plot.primitives(run, "front", bins=3).data
    assert len(shares.y) > 3
    store.close()


def test_a_search_of_an_own_anchor_is_created_by_name_and_by_nothing_else(served):
    _, http = served
    assert "tiny-seq" in http.get("/anchors").json()
    body = {"preset": "quickstart", "overrides": {"task.anchors": [{"name": "tiny-seq"}]}}
    made = http.post("/searches", json=body)
    assert made.status_code == 201, made.text
    config = http.get(f"/searches/{made.json()['id']}").json()["config"]
    (plugin,) = config["task"]["plugins"]
    assert (plugin["name"], plugin["file"]) == ("my_task.py", "")
    assert config["task"]["anchors"][0]["forbids"]
    evil = {"preset": "quickstart", "overrides": {
        "task.plugins": [{"name": "evil.py", "file": "/etc/passwd"}]}}  # fmt: skip
    refused = http.post("/searches", json=evil)
    assert refused.status_code == 422
    assert "EVOSEARCH_PLUGINS" in refused.text


def test_a_database_opens_in_the_dashboard_while_a_search_runs(tmp_path):
    """What a notebook makes is shown as it grows, and a command from the page is followed."""
    run = es.search(
        [f"{MY_TASK}:TinySeq"], budget=400, pool="inline", settings=SMALL, confirm=False,
        db=f"sqlite:///{tmp_path}/store.db", show=False, background=True,
    )  # fmt: skip
    seen = []
    try:
        with (
            running(tmp_path) as service,
            httpx.Client(base_url=service.url + "/api/v1", timeout=30) as http,
        ):
            deadline = time.monotonic() + 60
            while len(set(seen)) < 3:
                assert time.monotonic() < deadline, seen
                shown = http.get(f"/searches/{run.id}").json()
                assert shown["status"] == "running", shown
                seen.append(shown["evaluated"])
                time.sleep(0.05)
            assert http.get(f"/searches/{run.id}/hypervolume").status_code == 200
            assert http.get(f"/searches/{run.id}/funnel").status_code == 200
            page = httpx.get(f"{service.url}/").text
            assert "<html" in page
            assert http.post(f"/searches/{run.id}/pause").status_code == 202
            run.wait(60)
            assert run.status == "paused"
    finally:
        run.close()


def test_the_web_process_loads_no_plugin_that_only_trains(tmp_path, monkeypatch):
    heavy, row = tmp_path / "heavy.py", tmp_path / "row.py"
    heavy.write_text("raise SystemExit('loaded by the web process')\n")
    row.write_text(ROW)
    monkeypatch.setenv("EVOSEARCH_PLUGINS", f"{heavy}{os.pathsep}{row}")
    from api.settings import ServiceSettings

    app = make_app(ServiceSettings(db=f"sqlite:///{tmp_path}/x.db"))
    app.service.close()
    there = {path.name: loaded(read_source(str(path)).sha256) for path in (heavy, row)}
    assert there["heavy.py"] is None
    assert there["row.py"] is not None  # whose primitive stands in graphs


def test_a_report_that_would_load_code_is_left_to_the_command(tmp_path):
    """Layers may hold primitives of a plug-in that the service does not offer."""
    (tmp_path / "row.py").write_text(ROW + "# of this test alone\n")
    plugin = read_source(str(tmp_path / "row.py")).plugin
    store = SqlStore(f"{tmp_path}/store.db")
    store.create("aaaaaaaa", "own", Created(config=with_plugins(CREATED.config, [plugin])))
    store.close()
    with running(tmp_path) as service:
        answer = httpx.get(f"{service.url}/api/v1/searches/aaaaaaaa/report.md")
    assert answer.status_code == 409
    assert "runs no primitives of a plug-in" in answer.text
    assert "evosearch report aaaaaaaa" in answer.text
    assert loaded(plugin.sha256) is None


def test_the_helper_speaks_the_primitives_that_the_service_offers(tmp_path, monkeypatch):
    (tmp_path / "row.py").write_text(ROW)
    monkeypatch.setenv("EVOSEARCH_PLUGINS", f"{tmp_path}/row.py")
    helper = Helper(60)
    try:
        nodes = [{"op": "arsinh", "inputs": [0]}]
        told = helper.ask("export", graph={"version": 1, "nodes": nodes}, form="formula")
    finally:
        helper.close()
    assert told["text"].strip() == "arsinh(x)"
