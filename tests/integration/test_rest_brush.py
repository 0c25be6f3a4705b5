"""Brushes, confirmed leaders, fronts of any two quantities, failures: what the page filters by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from db.sql_store import SqlStore
from evosearch.events import JobLost
from evosearch.records import Failure
from tests.integration.test_rest_charts import NAME, better, get, made
from tests.support.events import (
    ANCHORS,
    evaluation,
    failed,
    job_finished,
    job_queued,
    queued,
    standing,
)
from tests.support.service import running
from tests.support.standings import Story

__all__ = ["get", "made"]
WORDS = ("tanh", "abs", "neg", "square")


def uses(birth: int, word: str) -> bool:
    """Whether the made-up graph of that birth uses the primitive."""
    return word in [WORDS[(birth // 4**k) % 4] for k in range(6)]


def test_the_headline_is_the_confirmed_leader_whoever_is_lucky(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = Story(store, NAME)
    story.baselines()
    lucky = [0.90, 0.80, 0.75]
    first = story.candidate([0.70, 0.70, 0.70])
    story.candidate(lucky)
    story.flush()
    with running(tmp_path) as service:
        base = f"{service.url}/api/v1/searches/{NAME}"
        before = httpx.get(f"{base}/verdict").json()
        assert (before["leader"]["birth"], before["leader"]["confirmed"]) == (first + 1, False)
        assert before["ahead_provisional"] == 0
        # A person has the older one measured again: it is the only one that is sure.
        place = standing([0.69, 0.69, 0.69], seeds=2)
        runs = [evaluation(first, anchor, 0.68, seed=2, job="r1", purpose="remeasure")
                for anchor in ANCHORS]  # fmt: skip
        story.write(job_queued("r1", first, "remeasure"), *runs,
                    job_finished("r1", first, "remeasure", place))  # fmt: skip
        story.flush()
        told = httpx.get(f"{base}/verdict").json()
        assert (told["leader"]["birth"], told["leader"]["seeds"]) == (first, 2)
        assert told["ahead_provisional"] == 1
        assert told["text"].endswith("; 1 provisional ahead")
        shown = httpx.get(f"{base}/progress").json()
        assert [one["birth"] for one in shown["leader"]] == [first]
        assert [one["birth"] for one in shown["provisional"]] == [first, first + 1]
        assert shown["leader"][0]["gains"] == pytest.approx(list(0.69 - better()))
        assert httpx.get(f"{base}/scatter").json()["leader"] == first
    store.close()


def test_a_brush_is_one_filter_for_charts_table_and_download(get: Any, made: Any) -> None:
    truth = made[1].truth
    whole = get("/scatter", x="live_nodes", y="gain")
    ordered = sorted(whole["y"])
    middle = f"{(ordered[15] + ordered[16]) / 2:.7f}"  # between two, for answers are rounded
    wanted = {"range": [f"gain:-9..{middle}", "live_nodes:0..99"]}
    gained = dict(zip(whole["births"], whole["y"], strict=True))
    inside = {birth for birth, y in gained.items() if y <= float(middle)}
    assert 10 < len(inside) < len(whole["births"])
    part = get("/scatter", x="score.resnet", y="score.mobilenet", **wanted)
    assert set(part["births"]) == inside
    bars = {one["stage"]: one["inside"] for one in get("/funnel/path", **wanted)["bars"]}
    assert bars["evaluated"] == len(inside)
    assert bars["front"] == len(inside & truth.front)
    assert (bars["proposed"], bars["signal"]) == (None, None)
    found = get("/throughput", bins=7, **wanted)
    assert sum(found["inside"]) == len(inside)
    assert all(a <= b for a, b in zip(found["inside"], found["evaluated"], strict=True))
    population = get("/ages", **wanted)
    assert (population["size"], population["inside"]) == (33, len(inside))
    assert {one["birth"] for one in population["members"]} == inside
    all_ages = {one["birth"]: one["age"] for one in get("/ages")["members"]}
    assert all(one["age"] == all_ages[one["birth"]] for one in population["members"])
    nodes = dict(zip(whole["births"], whole["x"], strict=True))
    simple = get("/simplest", **wanted)["rows"]
    assert sum(one["candidates"] for one in simple) == len(inside)
    for row in simple:
        mine = [birth for birth in inside if nodes[birth] == row["live_nodes"]]
        assert row["birth"] == max(mine, key=gained.__getitem__)
    shares, every = (get("/primitive-shares", bins=1, **more) for more in (wanted, {}))
    for row, other in zip(shares["rows"], every["rows"], strict=True):
        word = row["primitive"]
        users = [word in WORDS and uses(birth, word) for birth in inside]
        if word in WORDS:
            assert row["survivors"] == [pytest.approx(np.mean(users), abs=1e-4)]
        front = [uses(birth, word) for birth in inside & truth.front if word in WORDS]
        assert not front or row["front"] == [pytest.approx(np.mean(front), abs=1e-4)]
        assert row["proposals"] == other["proposals"]
    held = get("/progress", **wanted)["inside"]
    gains = [one["gain"] for one in held]
    assert gains == sorted(gains)
    assert {one["birth"] for one in held} <= inside
    assert gains[-1] == pytest.approx(max(gained[birth] for birth in inside), abs=1e-5)
    assert [one["evaluated"] for one in held] == sorted(one["evaluated"] for one in held)
    listed = get("/candidates", limit=500, sort="-gain_low", **wanted)["candidates"]
    assert {one["birth"] for one in listed} == inside
    lows = [one["gain"]["low"] for one in listed]
    assert lows == sorted(lows, reverse=True)
    assert [one["step_time"] for one in listed] == pytest.approx([0.7] * len(listed))
    base = made[0].url + f"/api/v1/searches/{NAME}"
    lines = httpx.get(f"{base}/candidates.csv", params=wanted).text.splitlines()
    assert {int(one.split(",")[0]) for one in lines[1:]} == inside
    assert get("/candidates", range="gain:5..9")["candidates"] == []
    everything = get("/scatter", range=["score.resnet:-1e95..9e95", "memory:0..9e95"])["births"]
    assert everything == whole["births"]
    for wrong in ("gain:1", "gain:a..b", "colour:0..1", "gain:1e999..2", "x" * 99):
        assert httpx.get(f"{base}/candidates", params={"range": wrong}).status_code == 422
    assert httpx.get(f"{base}/scatter", params={"range": "score.no:0..1"}).status_code == 400


def test_the_front_of_two_quantities_is_told(get: Any) -> None:
    for x, y in (("live_nodes", "gain"), ("score.resnet", "score.mobilenet"),
                 ("score.resnet", "live_nodes")):  # fmt: skip
        found = get("/scatter", x=x, y=y)
        signs = np.array([-1 if found["low_x"] else 1, -1 if found["low_y"] else 1])
        places = dict(zip(found["births"], zip(found["x"], found["y"], strict=True), strict=True))
        points = {birth: tuple(np.array(at) * signs) for birth, at in places.items()}
        expected = {
            at for at in points.values()
            if not any(o[0] >= at[0] and o[1] >= at[1] and o != at for o in points.values())
        }  # fmt: skip
        assert {points[birth] for birth in found["stairs"]} == expected
        assert len(found["stairs"]) == len(expected)
        assert get("/scatter", x=x, y=y, points=5)["stairs"] == found["stairs"]


def test_failures_are_all_counted(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    story = Story(store, NAME)
    story.baselines()
    births = []
    for number in range(310):
        story.birth += 1
        births.append(story.birth)
        story.write(queued(story.birth), failed(story.birth, quarantined=number % 2 == 0))
    story.birth += 1
    hung = Failure(cause="hung", detail="")
    lost = JobLost(id=f"c{story.birth}", failure=hung, attempt=1, worker="ray-7")
    story.write(queued(story.birth), *[lost] * 700)
    story.candidate([0.5, 0.5, 0.5])
    story.flush()
    with running(tmp_path) as service:
        base = f"{service.url}/api/v1"
        found = httpx.get(f"{base}/searches/{NAME}/failures").json()
        assert found["total"] == 1010
        counts = [(one["cause"], one["candidates"], one["jobs"]) for one in found["causes"]]
        assert counts == [("hung", 0, 700), ("died", 310, 0)]
        assert found["causes"][1]["births"] == births[:-13:-1]
        assert found["workers"] == [{"worker": "ray-7", "causes": {"hung": 700}}]
        (line,) = httpx.get(f"{base}/compare", params={"search": NAME}).json()["searches"]
        assert line["failures_last_hour"] == 1010
        rows = httpx.get(f"{base}/searches/{NAME}/events", params={
            "kind": ["job_lost", "candidate_failed"], "newest": True, "limit": 500,
        }).json()["events"]  # fmt: skip
        assert {one["kind"] for one in rows} == {"job_lost"}
        older = httpx.get(f"{base}/searches/{NAME}/events", params={
            "kind": ["job_lost", "candidate_failed"], "newest": True, "limit": 500,
            "before": rows[0]["seq"],
        }).json()["events"]  # fmt: skip
        assert [one["kind"] for one in older] == ["candidate_failed"] * 300 + ["job_lost"] * 200
        assert older[-1]["seq"] < rows[0]["seq"]
    store.close()
