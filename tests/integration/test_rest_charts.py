"""What charts are drawn from, against figures that are computed here from the raw scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import t as student
from sqlalchemy import event

from db.controllers import Controllers
from db.sql_store import SqlStore
from tests.support.service import OFFERS, Running, fill, running
from tests.support.standings import BASELINES, Story

NAME = "k3f9a1c2"
FRESH = [[0.70, 0.72, 0.74], [0.66, 0.68, 0.70], [0.61, 0.60, 0.62]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Story, int]]:
    """A service over a story; the number of the event before the confirmation."""
    folder = tmp_path_factory.mktemp("charts")
    store = SqlStore(f"{folder}/store.db")
    fill(store, 40, name="other001")
    story = Story(store, NAME)
    story.baselines()
    story.many(30)
    story.others(6)
    best = story.candidate([0.80, 0.70, 0.65], parents=(1,))
    story.candidate([0.50, 0.70, 0.66], parents=(best,))
    story.repeated(best)
    visit = story.truth.last
    story.candidate([0.10, 0.10, 0.70])
    story.confirm(best, FRESH)
    story.flush()
    with running(folder) as service:
        yield service, story, visit
    store.close()


@pytest.fixture(scope="module")
def get(made: tuple[Running, Story, int]) -> Iterator[Any]:
    """Asks for a path of the search."""
    with httpx.Client(base_url=made[0].url + f"/api/v1/searches/{NAME}", timeout=30) as client:

        def ask(path: str, **query: Any) -> Any:
            answer = client.get(path, params=query)
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield ask


def better() -> np.ndarray:
    """Mean scores of the better rival of each anchor, over both of its seeds."""
    return np.array([max(scores[k] for scores in BASELINES.values()) + 0.01 for k in range(3)])


def test_the_verdict_is_the_leader_on_fresh_seeds(get: Any, made: Any) -> None:
    found, (_, story, _) = get("/verdict"), made
    fresh = np.array(FRESH)
    leader = found["leader"]
    assert leader["birth"] == next(iter(story.truth.confirmed))
    assert (leader["seeds"], leader["confirmed"]) == (3, True)
    assert leader["gain"]["value"] == pytest.approx((fresh.mean(axis=1) - better()).mean())
    # Pooled over seeds, means over anchors: three fresh ones of the leader, two of each baseline.
    of_mean = fresh.mean(axis=0)
    variance = (((of_mean - of_mean.mean()) ** 2).sum() + 2 * 0.0002) / (2 + 1 + 1)
    half = student.ppf(0.975, 4) * np.sqrt(variance * (1 / 3 + 1 / 2))
    assert leader["gain"]["high"] - leader["gain"]["value"] == pytest.approx(half)
    assert [one["baseline"] for one in leader["anchors"]] == ["bn-relu", "bn-silu", "bn-silu"]
    assert found["baseline"] == "BN-ReLU/BN-SiLU"
    assert found["outcome"] == "ahead_surely"
    assert found["text"].startswith(f"leader +{100 * leader['gain']['value']:.1f} ± ")
    assert found["ahead_provisional"] == 0  # nobody's one seed is above the leader's fresh ones
    assert found["ahead_confirmed"] == 1
    assert found["final"] is None


def test_the_scatter_shows_everyone_once(get: Any, made: Any) -> None:
    truth = made[1].truth
    whole = get("/scatter", x="live_nodes", y="gain")
    assert sorted(whole["births"]) == sorted(truth.scores)
    assert (whole["rest"], whole["shown"], whole["total"]) == (None, len(truth.scores), 33)
    y = dict(zip(whole["births"], whole["y"], strict=True))
    for birth, scores in truth.scores.items():
        told = FRESH and truth.confirmed.get(birth)
        mean = np.mean(told) if told else np.mean(scores)
        assert y[birth] == pytest.approx(mean - better().mean(), abs=1e-6)
    on_front = dict(zip(whole["births"], whole["on_front"], strict=True))
    assert {birth for birth, there in on_front.items() if there} == truth.front
    assert {one["name"]: one["x"] for one in whole["baselines"]} == {"BN-ReLU": 8, "BN-SiLU": 9}
    few = get("/scatter", x="step_time", y="score.resnet", points=5)
    assert len(few["births"]) == 5
    assert truth.front <= set(few["births"])
    assert sum(map(sum, few["rest"]["counts"])) == few["rest"]["total"] == 33 - 5
    assert few["x"] == pytest.approx([0.7] * 5)


def test_unknown_quantities_are_refused(made: Any) -> None:
    base = made[0].url + f"/api/v1/searches/{NAME}/scatter"
    assert httpx.get(base, params={"x": "colour"}).status_code == 422
    answer = httpx.get(base, params={"x": "score.nothing"})
    assert answer.status_code == 400
    assert "resnet" in answer.json()["detail"]


def test_progress_tells_who_led_and_ends_confirmed(get: Any, made: Any) -> None:
    truth = made[1].truth
    found = get("/progress")
    points = found["provisional"]
    best, leads = -1.0, []
    for birth in sorted(truth.scores):
        if np.mean(truth.scores[birth]) > best:
            best = float(np.mean(truth.scores[birth]))
            leads.append((birth, truth.outcome[birth]))
    assert [(one["birth"], one["seq"]) for one in points] == leads
    assert not any(one["confirmed"] for one in points)
    sure = found["leader"][-1]
    assert (sure["birth"], sure["seeds"], sure["confirmed"]) == (leads[-1][0], 3, True)
    assert sure["gains"] == pytest.approx(list(np.mean(FRESH, axis=1) - better()))
    assert [one["steps"] for one in points] == sorted(one["steps"] for one in points)
    assert points[0]["steps"] == 100 * (12 + 3)
    few = get("/progress", points=3)
    assert len(few["provisional"]) == 3
    assert few["provisional"][-1] == points[-1]
    assert few["provisional"][0] == points[0]
    marks = [(one["kind"], one["text"]) for one in few["marks"]]
    assert marks == [("phase", "confirm"), ("phase", "tune"), ("pause", "")]


def test_the_funnel_counts_down(get: Any, made: Any) -> None:
    bars = {one["stage"]: one for one in get("/funnel/path")["bars"]}
    births = made[1].birth - 1  # one of them is a duplicate
    assert bars["proposed"]["count"] == births + 33 * 9
    assert bars["fresh"]["count"] == births
    assert bars["signal"]["count"] == births - 6 - 1
    assert bars["evaluated"]["count"] == 33
    assert bars["evaluated"]["share"] == pytest.approx(1.0)
    assert bars["front"]["count"] == len(made[1].truth.front)
    assert bars["signal"]["saved_hours"] > 0


def test_throughput_counts_every_outcome_and_second(get: Any, made: Any) -> None:
    found = get("/throughput", bins=7)
    assert (sum(found["evaluated"]), sum(found["rejected"]), sum(found["failed"])) == (33, 6, 1)
    worked = sum(found["busy"]) * found["bin_seconds"]
    assert worked == pytest.approx(33 * 2.5 + 6 * 0.01 + 7 * 2.0, rel=1e-3)
    # Nobody runs it: of how many workers they were is not known.
    assert found["workers"] is None
    assert set(found["busy_share"]) == {None}
    told = Controllers(made[0].app.service.store)
    told.register("pool", "here", 1, "ray", OFFERS)
    states = ["busy", *["idle"] * 6, "starting", "dead"]
    workers = [{"name": f"ray-{k}", "state": state, "seconds": 1.0, "failures": {}}
               for k, state in enumerate(states)]  # fmt: skip
    told.beat("pool", 8, workers, [NAME])
    told.register("else", "there", 2, "ray", OFFERS)
    told.beat("else", 8, workers, ["other001"])
    found = get("/throughput", bins=7)
    assert found["workers"] == 8
    for busy, share in zip(found["busy"], found["busy_share"], strict=True):
        assert share == (None if busy > 8.05 else pytest.approx(min(1.0, busy / 8), rel=1e-3))
    told.leave("pool")
    assert get("/throughput")["workers"] is None


def test_simplest_takes_the_best_of_each_size(get: Any, made: Any) -> None:
    rows = get("/simplest")["rows"]
    assert sum(one["candidates"] for one in rows) == 33
    assert [one["live_nodes"] for one in rows] == sorted({one["live_nodes"] for one in rows})
    (confirmed,) = (one for one in rows if one["confirmed"])
    assert confirmed["birth"] in made[1].truth.confirmed


def test_primitive_shares_are_counted_by_hand(get: Any, made: Any) -> None:
    found = get("/primitive-shares", bins=1)
    rows = {one["primitive"]: one for one in found["rows"]}
    births = range(1, made[1].birth + 1)
    words = ("tanh", "abs", "neg", "square")

    def uses(birth: int, word: str) -> bool:  # digits choose the primitives, see the fixture
        return word in [words[(birth // 4**k) % 4] for k in range(6)]

    for word in words:
        share = sum(uses(birth, word) for birth in births) / len(births)
        assert rows[word]["proposals"] == [pytest.approx(share, abs=1e-4)]
        lived = [uses(birth, word) for birth in made[1].truth.scores]
        assert rows[word]["survivors"] == [pytest.approx(np.mean(lived), abs=1e-4)]
        front = [uses(birth, word) for birth in made[1].truth.front]
        assert rows[word]["front"] == [pytest.approx(np.mean(front), abs=1e-4)]
    assert found["evaluated"] == [33]


def test_ages_begin_with_the_youngest(get: Any, made: Any) -> None:
    found = get("/ages")
    youngest = max(made[1].truth.outcome, key=made[1].truth.outcome.__getitem__)
    first = next(one for one in found["members"] if one["age"] == 0)
    assert (first["birth"], found["size"]) == (youngest, 33)
    few = get("/ages", members=9)["members"]
    assert len(few) <= 9
    assert {one["birth"] for one in few if one["on_front"]} <= made[1].truth.front


def test_since_tells_what_came_after(get: Any, made: Any) -> None:
    _, story, visit = made
    found = get("/since", event=visit)
    last = max(story.truth.scores)
    assert (found["evaluated"], found["rejected"]) == (1, 0)
    assert [one["birth"] for one in found["front"]] == [last]
    assert found["new_on_front"] == 1
    assert found["leader_before"] == found["leader_now"]
    assert found["gain_now"] < found["gain_before"]  # fresh seeds are lower than the first
    known = {birth: np.mean(scores) for birth, scores in story.truth.scores.items()}
    known |= {birth: np.mean(scores) for birth, scores in story.truth.confirmed.items()}
    then = sorted((one for one in known if story.truth.outcome[one] <= visit),
                  key=lambda birth: -known[birth])  # fmt: skip
    leads = found["leader_before"]
    assert found["leaders_before"] == list(dict.fromkeys([leads, *then]))[:5]
    everything = get("/since")
    assert (everything["evaluated"], everything["failed"]) == (33, 1)
    assert everything["workers_lost"] == 1
    assert everything["leader_before"] is None
    assert everything["leaders_before"] == []
    assert get("/since", event=story.truth.last)["marks"] == []


def test_the_config_differs_where_it_was_changed(get: Any) -> None:
    found = get("/config-difference")
    assert found["preset"] == "custom" or found["known"]
    assert "[task]" in found["toml"]


def test_searches_stand_side_by_side(made: Any) -> None:
    url = made[0].url + "/api/v1/compare"
    found = httpx.get(url, params={"search": [NAME, "other001"]}).json()["searches"]
    assert [one["id"] for one in found] == [NAME, "other001"]
    assert [one["comparable"] for one in found] == [True, True]
    assert [one["verdict"]["outcome"] for one in found] == ["ahead_surely", "no_baseline"]
    assert all(len(one["sparkline"]) <= 40 for one in found)
    assert httpx.get(url).status_code == 422
    assert httpx.get(url, params={"search": "zzz"}).status_code == 404


PATHS = (
    "/verdict", "/scatter", "/scatter?x=memory&y=score.resnet", "/progress", "/funnel/path",
    "/throughput", "/simplest", "/primitive-shares", "/ages", "/since?event=40",
    "/candidates/1/about", "/candidates/1/trainings", "/candidates/1/family",
)  # fmt: skip


def statements(service: Running, path: str) -> tuple[int, int]:
    """How many statements the answer took, and its size."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    engine = service.app.service.store.engine
    event.listen(engine, "before_cursor_execute", note)
    answer = httpx.get(service.url + f"/api/v1/searches/{NAME}{path}", timeout=60)
    event.remove(engine, "before_cursor_execute", note)
    assert answer.status_code == 200, answer.text
    return len(seen), len(answer.content)


@pytest.mark.parametrize("kind", ["cold", "warm"])
def test_answers_take_as_many_statements_at_any_size(tmp_path: Path, kind: str) -> None:
    found: dict[int, dict[str, int]] = {}
    for count in (10, 1000):
        folder = tmp_path / str(count)
        folder.mkdir()
        store = SqlStore(f"{folder}/store.db")
        story = Story(store, NAME)
        story.baselines()
        story.many(count)
        story.flush()
        with running(folder, poll_seconds=3600.0) as service:
            statements(service, "/verdict")  # whatever a service reads once is read by now
            counts: dict[str, int] = {}
            for path in PATHS:
                if kind == "cold":
                    service.app.service.ledgers.forget(NAME)
                counts[path], size = statements(service, path)
                assert size < 700_000
            found[count] = counts
        store.close()
    assert found[10] == found[1000]
    assert max(found[10].values()) <= 14


def test_a_confirmed_candidate_says_the_same_everywhere(get: Any, made: Any) -> None:
    (best,) = made[1].truth.confirmed
    about = get(f"/candidates/{best}/about")
    assert about["gain"]["value"] == pytest.approx((np.mean(FRESH, axis=1) - better()).mean())
    assert about["gain_seeds"] == 3
    assert about["verdict"]["reason"].endswith("; 3 seeds")
    assert get(f"/candidates/{best}")["verdict"] == about["verdict"]
    (parent,) = get(f"/candidates/{best + 1}/family")["parents"]
    assert (parent["birth"], parent["mean_score"]) == (best, pytest.approx(np.mean(FRESH)))
    assert parent["gain"] == pytest.approx(about["gain"]["value"])
    (child,) = get("/candidates/1/family")["children"]
    assert child["gain"] == pytest.approx(about["gain"]["value"])
