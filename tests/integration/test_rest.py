"""REST over a real socket and a real SQLite store: what it shows, changes and refuses."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.sql_store import SqlStore
from evosearch.client import Client
from evosearch.presets import load_preset
from primitives.ops import OP_SETS
from tests.support.events import RandomSearch, evaluated, queued, standing
from tests.support.service import SEARCH, Running, fill, running
from tests.support.standings import Story


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, RandomSearch]]:
    """A service over a made-up search; tests that change it use searches of their own."""
    folder = tmp_path_factory.mktemp("rest")
    store = SqlStore(f"{folder}/store.db")
    search = fill(store)
    store.close()
    with running(folder) as service:
        yield service, search


@pytest.fixture(scope="module")
def http(made: tuple[Running, RandomSearch]) -> Iterator[httpx.Client]:
    """A client of that service."""
    with httpx.Client(base_url=made[0].url + "/api/v1", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def truth(made: tuple[Running, RandomSearch]) -> RandomSearch:
    """What the store was filled with."""
    return made[1]


def ok(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def refused(response: httpx.Response, status: int) -> dict[str, object]:
    """The problem of an answer, in the one shape of errors."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, object] = response.json()
    assert told["status"] == status
    assert len(str(told["error_id"])) == 12
    assert "Traceback" not in response.text
    return told


NEW = {"preset": "quickstart", "overrides": {"budget.evaluations": 2}}


def test_the_web_app_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    code = (
        "import sys; from api.app import make_app; from api.settings import load_settings\n"
        f"app = make_app(load_settings({{'db': '{tmp_path}/a.db'}})); app.api.openapi()\n"
        "print([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_page_of_candidates_meets_each_once(http: httpx.Client, truth: RandomSearch) -> None:
    births: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = http.get(f"/searches/{SEARCH}/candidates", params={"limit": 7} | cursor).json()
        births += [one["birth"] for one in page["candidates"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert births == sorted(births, reverse=True)
    assert len(births) == len(set(births))
    assert set(truth.scores) <= set(births)


@pytest.mark.parametrize("sort", ["-mean_score", "live_nodes", "-score.resnet", "finished_at"])
def test_every_order_is_an_order(http: httpx.Client, truth: RandomSearch, sort: str) -> None:
    found: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        asked = {"limit": 3, "sort": sort, "state": "evaluated"} | cursor
        page = http.get(f"/searches/{SEARCH}/candidates", params=asked).json()
        found += page["candidates"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert {one["birth"] for one in found} == set(truth.scores)
    name = sort.strip("-")
    if name.startswith("score."):
        values = [one["scores"][name.removeprefix("score.")] for one in found]
    else:
        values = [one[name] for one in found]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_pages_are_stable_while_candidates_come_in(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    fill(store, 60)
    with running(tmp_path) as service, httpx.Client(base_url=service.url + "/api/v1") as http:
        path = f"/searches/{SEARCH}/candidates"
        every = {one["birth"] for one in http.get(path, params={"limit": 500}).json()["candidates"]}
        seen: list[int] = []
        cursor: dict[str, str] = {}
        lease = store.acquire(SEARCH, "me", 60)
        birth = 10_000
        while True:
            page = http.get(path, params={"limit": 5} | cursor).json()
            seen += [one["birth"] for one in page["candidates"]]
            birth += 1
            store.append(lease, [queued(birth), evaluated(birth, standing([0.5, 0.5, 0.5]))])
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert len(seen) == len(set(seen))
        assert set(seen) == every
    store.close()


def test_where_means_what_it_says(http: httpx.Client, truth: RandomSearch) -> None:
    good = {b for b, s in truth.scores.items() if sum(s) / 3 > 0.5 and s[0] < 0.9}
    where = "mean_score > 0.5 and not score.resnet >= 0.9"
    page = http.get(f"/searches/{SEARCH}/candidates",
                    params={"where": where, "limit": 500, "state": "evaluated"}).json()  # fmt: skip
    assert {one["birth"] for one in page["candidates"]} == good
    # "not" is the complement, also where a value is unknown.
    path = f"/searches/{SEARCH}/candidates"
    counts = [
        len(http.get(path, params={"where": text, "limit": 500}).json()["candidates"])
        for text in ("mean_score > 0.5", "not mean_score > 0.5", "birth >= 0")
    ]
    assert counts[0] + counts[1] == counts[2]


def test_text_finds_parts_of_formulas_and_nothing_else(http: httpx.Client) -> None:
    path = f"/searches/{SEARCH}/candidates"
    page = http.get(path, params={"text": "tanh", "limit": 500}).json()["candidates"]
    assert page
    assert all("tanh" in one["formula"] for one in page)
    assert http.get(path, params={"text": "%"}).json()["candidates"] == []


def test_the_csv_has_every_row(http: httpx.Client, truth: RandomSearch) -> None:
    response = http.get(f"/searches/{SEARCH}/candidates.csv", params={"state": "evaluated"})
    assert response.headers["content-type"].startswith("text/csv")
    assert SEARCH in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert {int(row["birth"]) for row in rows} == set(truth.scores)
    assert not any(row["formula"].startswith(("=", "+", "-", "@")) for row in rows)


def test_parquet_holds_the_same(http: httpx.Client, truth: RandomSearch) -> None:
    from pyarrow import parquet

    data = http.get(f"/searches/{SEARCH}/candidates.parquet", params={"state": "evaluated"})
    table = parquet.read_table(io.BytesIO(data.content))
    assert set(table.column("birth").to_pylist()) == set(truth.scores)


def test_one_candidate_shows_its_life(http: httpx.Client, truth: RandomSearch) -> None:
    birth = max(truth.scores)
    one = ok(http.get(f"/searches/{SEARCH}/candidates/{birth}"))
    assert one["state"] == "evaluated"
    assert one["graph"]["version"] == 1
    assert one["verdict"]["outcome"] == "evaluated"
    curves = [run["curve"] for run in one["evaluations"]]
    assert [[1.0, 2.3], [50.0, 1.1], [100.0, 0.4]] in curves
    family = ok(http.get(f"/searches/{SEARCH}/candidates/{birth}/lineage"))
    ups = {(link["parent"], link["child"]) for link in family["ancestors"]}
    assert {parent for parent, child in ups if child == birth} == set(one["parents"])
    parent = one["parents"][0]
    back = ok(http.get(f"/searches/{SEARCH}/candidates/{parent}/lineage"))
    assert birth in {link["child"] for link in back["descendants"]}


def test_front_and_history_agree_with_the_search(http: httpx.Client, truth: RandomSearch) -> None:
    front = ok(http.get(f"/searches/{SEARCH}/front"))
    assert {one["birth"] for one in front["candidates"]} == truth.front
    steps = ok(http.get(f"/searches/{SEARCH}/front/history"))["steps"]
    members: set[int] = set()
    for step in steps:
        members = (members | set(step["front_in"])) - set(step["front_out"])
    assert members == truth.front
    curve = ok(http.get(f"/searches/{SEARCH}/hypervolume", params={"points": 5}))
    assert curve["values"][-1] == front["hypervolume"]
    assert len(curve["values"]) <= 6


def test_funnel_costs_and_population_add_up(http: httpx.Client, truth: RandomSearch) -> None:
    funnel = ok(http.get(f"/searches/{SEARCH}/funnel"))
    assert funnel["states"]["evaluated"] == len(truth.scores)
    assert {row["code"] for row in funnel["controller"]} == {"constant", "no_space"}
    costs = ok(http.get(f"/searches/{SEARCH}/costs"))
    trained = {row["purpose"]: row for row in costs["training"]}
    assert trained["search"]["trainings"] == 3 * len(truth.scores)
    # As the made-up workers tell: 2.5 s an evaluated candidate, .01 a rejected one, 2 a job.
    rejected, jobs = funnel["states"]["rejected"], trained["remeasure"]["trainings"] // 3
    spent = 2.5 * len(truth.scores) + 0.01 * rejected + 2.0 * jobs
    assert costs["worker_seconds"] == pytest.approx(spent)
    population = ok(http.get(f"/searches/{SEARCH}/population"))
    assert population["size"] == len(truth.scores)
    assert {one["birth"] for one in population["members"]} == set(truth.scores)


def test_etags_save_the_body(http: httpx.Client) -> None:
    for path in (f"/searches/{SEARCH}/front", "/catalog", "/primitives", "/presets"):
        first = http.get(path)
        again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    packed = http.get("/presets", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"


def test_a_candidates_etag_follows_the_baselines_that_it_is_compared_with(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = Story(store, SEARCH)
    birth = story.candidate([0.7, 0.6, 0.5])
    story.flush()
    with running(tmp_path) as service:
        url = f"{service.url}/api/v1/searches/{SEARCH}/candidates/{birth}"
        first = httpx.get(url)
        assert (first.json()["gain"], first.json()["step_time"]) == (None, None)
        known = {"If-None-Match": first.headers["etag"]}
        assert httpx.get(url, headers=known).status_code == 304
        story.baselines()
        story.flush()
        then = httpx.get(url, headers=known)
        assert then.status_code == 200
        assert then.json()["gain"]["value"] > 0.0
        assert then.json()["step_time"] == pytest.approx(0.7)
    store.close()


def test_what_is_known_is_listed(http: httpx.Client) -> None:
    assert "evonorm-b0" in {one["name"] for one in http.get("/catalog").json()}
    listed = {(one["name"], one["over"]) for one in http.get("/primitives").json()}
    assert listed >= {*OP_SETS["paper+token"], *OP_SETS["extended"]}
    assert http.get("/anchors").json() == ["resnet", "mobilenetv2", "efficientnet"]
    presets = ok(http.get("/presets"))
    configs = {one["name"]: one["config"] for one in presets["presets"]}
    assert configs["quickstart"] == load_preset("quickstart").model_dump(mode="json")
    assert presets["json_schema"]["title"] == "SearchConfig"
    (one,) = http.get("/workers").json()["controllers"]
    assert (one["owner"], one["alive"]) == ("filler", False)


def test_a_search_is_made_once_for_each_key(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "one-key"}
    first = http.post("/searches", json=NEW, headers=headers)
    again = http.post("/searches", json=NEW, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["budget"] == 2
    refused(http.post("/searches", json=NEW | {"seed": 5}, headers=headers), 409)
    other = http.post("/searches", json=NEW)
    assert other.json()["id"] != first.json()["id"]


def test_a_search_can_be_made_from_its_own_config(http: httpx.Client) -> None:
    config = load_preset("quickstart", ["task.steps=50"], 7).model_dump(mode="json")
    made = ok(http.post("/searches", json={"config": config, "tags": ["a b"]}), 201)
    shown = ok(http.get(f"/searches/{made['id']}"))
    assert (shown["config"], shown["tags"]) == (config, ["a b"])
    toml = http.get(f"/searches/{made['id']}/config.toml")
    assert "steps = 50" in toml.text


def test_the_report_is_a_page_and_a_text(http: httpx.Client) -> None:
    search = ok(http.post("/searches", json=NEW), 201)["id"]
    page = http.get(f"/searches/{search}/report.html")
    assert page.status_code == 200, page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!DOCTYPE html>")
    text = http.get(f"/searches/{search}/report.md")
    assert f"evosearch search show {search} --config" in text.text
    known = {"If-None-Match": page.headers["etag"]}
    assert http.get(f"/searches/{search}/report.html", headers=known).status_code == 304
    assert http.get(f"/searches/{search}/report.md", headers=known).status_code == 200
    refused(http.get(f"/searches/{search}/report.pdf"), 422)
    refused(http.get("/searches/none/report.html"), 404)


def test_a_dry_run_counts_and_writes_nothing(http: httpx.Client) -> None:
    before = len(http.get("/searches").json()["searches"])
    told = ok(http.post("/searches/dry-run", json=NEW))
    config = load_preset("quickstart")
    end = config.confirmation
    rivals = len(end.rivals)
    runs = 2 + len(config.baselines) + end.top * end.seeds
    runs += rivals * end.seeds + 3 * end.baseline_seeds
    runs += (end.tune_top + rivals) * len(end.learning_rates) * end.tune_seeds
    runs += (1 + rivals) * end.final_seeds
    assert told["evaluations"] == 2
    assert told["train_steps"] == runs * 3 * config.task.steps
    assert told["hours"] is None
    assert len(http.get("/searches").json()["searches"]) == before


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"preset": "nonsense"}, 404, "quickstart"),
        ({"preset": "quickstart", "overrides": {"task.stepz": 3}}, 400, "stepz"),
        ({"preset": "quickstart", "overrides": {"task.steps": "many"}}, 400, "steps"),
        ({"preset": "quickstart", "overrides": {"task.dataset": "/etc/passwd"}}, 422, "data set"),
        ({"preset": "../../x"}, 422, "preset"),
        ({"preset": "quickstart", "colour": 1}, 422, "colour"),
        ({}, 422, "one of them"),
        ({"preset": "quickstart", "title": "a\u0007"}, 422, "control"),
        ({"preset": "quickstart", "seed": 10**30}, 422, "seed"),
    ],
)
def test_a_wrong_search_is_refused_in_words(
    http: httpx.Client, body: dict[str, object], status: int, word: str
) -> None:
    assert word in str(refused(http.post("/searches", json=body), status)["detail"])


def test_notes_and_commands_and_the_end_of_a_search(
    http: httpx.Client, made: tuple[Running, RandomSearch]
) -> None:
    search = str(ok(http.post("/searches", json=NEW), 201)["id"])
    marks = {"title": "mine", "tags": ["x"], "starred": True, "priority": 50}
    changed = ok(http.patch(f"/searches/{search}", json=marks))
    assert (changed["title"], changed["tags"], changed["starred"]) == ("mine", ["x"], True)
    kept = ok(http.patch(f"/searches/{search}", json={"notes": "hello"}))
    assert (kept["title"], kept["notes"], kept["priority"]) == ("mine", "hello", 50)
    for word in ("pause", "resume", "stop"):
        assert ok(http.post(f"/searches/{search}/{word}"), 202)["command"] == word
    ok(http.post(f"/searches/{search}/extend", json={"evaluations": 9}), 202)
    ok(http.post(f"/searches/{search}/enqueue", json={"formula": "x * sigmoid(x)"}), 202)
    store = made[0].app.service.store
    lease = store.acquire(search, "me", 10)
    kinds = [entry.command.kind for entry in store.commands(lease)]
    assert kinds == ["pause", "resume", "stop", "extend", "enqueue"]
    refused(http.delete(f"/searches/{search[:5]}"), 404)
    assert http.delete(f"/searches/{search}").status_code == 204
    refused(http.get(f"/searches/{search}"), 404)


def test_a_clone_stands_where_its_source_stood(http: httpx.Client) -> None:
    at = ok(http.get(f"/searches/{SEARCH}/events", params={"limit": 60}))["last"]
    clone = ok(http.post(f"/searches/{SEARCH}/clone", json={"at_event": at}), 201)
    assert clone["status"] == "paused"
    mine = ok(http.get(f"/searches/{clone['id']}/events", params={"limit": 500}))["events"]
    theirs = ok(http.get(f"/searches/{SEARCH}/events", params={"limit": 60}))["events"]
    assert mine[:-1] == theirs
    assert mine[-1]["kind"] == "status_changed"
    born = next(e for e in theirs if e["kind"] == "evaluation_recorded")
    birth = born["event"]["subject"]["birth"]
    one = ok(http.get(f"/searches/{clone['id']}/candidates/{birth}"))
    assert one["evaluations"][0]["curve"]
    refused(http.post(f"/searches/{SEARCH}/clone", json={"at_event": 10**9}), 409)


def test_readers_give_candidates_stars(
    http: httpx.Client, made: tuple[Running, RandomSearch], truth: RandomSearch
) -> None:
    births = sorted(truth.scores)[:2]
    path = f"/searches/{SEARCH}/candidates"
    last = ok(http.get(f"/searches/{SEARCH}"))["last_event"]
    fresh = http.get(f"{path}/{births[0]}")
    with Client(made[0].url) as client:
        for birth in (*births, births[0]):
            client.star(SEARCH, birth)
        assert {one.birth for one in client.candidates(SEARCH, starred=True)} == set(births)
        client.star(SEARCH, births[1], False)
        client.star(SEARCH, births[1], False)
        (one,) = client.candidates(SEARCH, starred=True)
        assert (one.birth, one.data["starred"]) == (births[0], True)
        assert births[0] not in {one.birth for one in client.candidates(SEARCH, starred=False)}
    # Who knows the candidate without its star is told of it.
    again = http.get(f"{path}/{births[0]}", headers={"If-None-Match": fresh.headers["etag"]})
    assert (again.status_code, again.json()["starred"]) == (200, True)
    text = http.get(f"{path}.csv", params={"starred": True}).text
    assert [line.split(",")[0] for line in text.splitlines()] == ["birth", str(births[0])]
    assert ok(http.get(f"/searches/{SEARCH}"))["last_event"] == last
    assert http.put(f"{path}/{births[0]}/star").status_code == 204
    refused(http.put(f"{path}/{10**12}/star"), 404)
    refused(http.put("/searches/zzzzzzzz/candidates/1/star"), 404)
    assert http.delete(f"{path}/{births[0]}/star").status_code == 204


def test_only_evaluated_candidates_are_measured_again(
    http: httpx.Client, truth: RandomSearch
) -> None:
    birth = max(truth.scores)
    path = f"/searches/{SEARCH}/candidates"
    ok(http.post(f"{path}/{birth}/remeasure", json={"seeds": 3}), 202)
    other = http.get(path, params={"state": "rejected"}).json()["candidates"][0]["birth"]
    refused(http.post(f"{path}/{other}/remeasure", json={"seeds": 3}), 409)
    refused(http.post(f"{path}/{birth}/remeasure", json={"seeds": 3000}), 422)


def test_health_and_metrics(made: tuple[Running, RandomSearch]) -> None:
    base = made[0].url
    assert httpx.get(base + "/healthz").json() == {"status": "ok"}
    assert httpx.get(base + "/readyz").status_code == 200
    text = httpx.get(base + "/metrics").text
    assert 'evosearch_requests_total{method="GET",route="/healthz",status="200"}' in text
    assert "evosearch_web_memory_bytes" in text


def test_a_short_id_must_mean_one_search(http: httpx.Client) -> None:
    assert ok(http.get(f"/searches/{SEARCH[:4]}"))["id"] == SEARCH
    refused(http.get("/searches/zzzzzzzz"), 404)
    refused(http.get("/searches/%00"), 422)
    refused(http.get(f"/searches/{SEARCH}/candidates/{10**25}"), 422)
    refused(http.get("/nothing/here"), 404)
    refused(http.put("/searches"), 405)
