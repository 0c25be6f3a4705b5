"""The figures of a notebook show what REST answers the page with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from api import plot
from api.run import Run
from db.memory import MemoryStore
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.errors import ConfigError
from tests.support.events import CONFIG
from tests.support.service import Running, running
from tests.support.standings import Story

NAME = "p1otp1ot"


def no_pool() -> Any:
    raise AssertionError("figures train nothing")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("plots")
    store = SqlStore(f"{folder}/store.db")
    story = Story(store, NAME)
    story.baselines()
    story.many(30)
    story.others(6)
    best = story.candidate([0.80, 0.70, 0.65], parents=(1,))
    story.confirm(best, [[0.70, 0.72, 0.74], [0.66, 0.68, 0.70], [0.61, 0.60, 0.62]])
    story.flush()
    with running(folder) as made:
        yield made
    store.close()


@pytest.fixture
def run(service: Running) -> Iterator[Run]:
    store = SqlStore(service.settings.db)
    yield Run(store, NAME, no_pool, show=False)
    store.close()


def ask(service: Running, path: str) -> Any:
    answer = httpx.get(f"{service.url}/api/v1/searches/{NAME}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_front_is_the_dashboards_figure_in_the_objectives_units(
    service: Running, run: Run
) -> None:
    first, second = run.config.anchor_names[:2]
    told = ask(service, f"/scatter?x=score.{first}&y=score.{second}")
    goals = [run.config.objective(name) for name in (first, second)]
    figure = plot.front(run)
    traces = {one.name: one for one in figure.data}
    assert list(traces) == ["evaluated", "front", "leader", "baselines"]
    for name, on_front in (("evaluated", False), ("front", True)):
        wanted = [
            (goals[0].value(x), goals[1].value(y))
            for x, y, is_on in zip(told["x"], told["y"], told["on_front"], strict=True)
            if is_on == on_front
        ]
        drawn = zip(traces[name].x, traces[name].y, strict=True)
        assert np.array([*drawn]) == pytest.approx(np.array(wanted))
    place = told["births"].index(told["leader"])
    assert [*traces["leader"].x] == pytest.approx([goals[0].value(told["x"][place])])
    assert traces["leader"].text[0].startswith(f"{told['leader']}: ")
    known = {one["name"]: (one["x"], one["y"]) for one in told["baselines"]}
    drawn_names = dict(zip(traces["baselines"].text, traces["baselines"].x, strict=True))
    assert drawn_names == pytest.approx({name: goals[0].value(x) for name, (x, _) in known.items()})
    costs = plot.front(run, "step_time", first)
    assert costs.layout.xaxis.type == "log"
    with pytest.raises(ConfigError, match="no such coordinate"):
        plot.front(run, "moons")


def test_gain_against_cost(service: Running, run: Run) -> None:
    told = ask(service, "/scatter?x=live_nodes&y=gain")
    provisional, confirmed, baselines = plot.gain(run, x="live_nodes").data
    drawn = [*zip(provisional.x, provisional.y, strict=True),
             *zip(confirmed.x, confirmed.y, strict=True)]  # fmt: skip
    wanted = zip(told["x"], 100 * np.array(told["y"]), strict=True)
    assert np.array(sorted(drawn)) == pytest.approx(np.array(sorted(wanted)))
    assert len(confirmed.x) == sum(told["confirmed"]) == 1
    assert confirmed.error_y.array[0] > 0
    assert confirmed.marker.color == (plot.LEADER,)
    known = {one["name"]: 100 * one["y"] for one in told["baselines"] if one["x"] is not None}
    assert dict(zip(baselines.text, baselines.y, strict=True)) == pytest.approx(known)


def test_progress_over_any_place(service: Running, run: Run) -> None:
    told = ask(service, "/progress")
    for against in plot.PLACES:
        *anchors, mean, volume = plot.progress(run, against).data
        assert [one.name for one in anchors] == told["anchors"]
        assert mean.x == pytest.approx([one[against] for one in told["leader"]])
        assert mean.y == pytest.approx([100 * one["gain"] for one in told["leader"]])
        assert volume.y[-1] == told["now"]["value"]
    with pytest.raises(ConfigError, match="expected evaluated, hours, steps, gpu_hours"):
        plot.progress(run, "moons")


def test_funnel_and_throughput(service: Running, run: Run) -> None:
    bars = ask(service, "/funnel/path")["bars"]
    (drawn,) = plot.funnel(run).data
    assert list(drawn.y) == [one["stage"] for one in bars]
    assert list(drawn.x) == [max(one["count"], 0.5) for one in bars]
    told = ask(service, "/throughput?bins=12")
    evaluated, rejected, failed, busy = plot.throughput(run, bins=12).data
    for one, name in ((evaluated, "evaluated"), (rejected, "rejected"), (failed, "failed")):
        assert list(one.y) == told[name]
    assert list(busy.y) == told["busy"]


def test_parallel_coordinates_are_the_dashboards_joined_answers(service: Running, run: Run) -> None:
    names = ["step_time", "live_nodes", *(f"score.{one}" for one in run.config.anchor_names)]
    told = {name: ask(service, f"/scatter?x={name}&y=gain&points=300") for name in names}
    (drawn,) = plot.parallel(run).data
    assert len(drawn.dimensions) == len(names) + 1
    places = [told[names[0]]["births"].index(int(birth)) for birth in drawn.ids]
    assert len(places) > 20
    for name, axis in zip(names, drawn.dimensions, strict=False):
        goal = run.config.objective(name[6:]) if name.startswith("score.") else None
        by_birth = dict(zip(told[name]["births"], told[name]["x"], strict=True))
        values = [by_birth[int(birth)] for birth in drawn.ids]
        wanted = values if goal is None else [goal.value(one) for one in values]
        assert list(axis["values"]) == pytest.approx(wanted)
    gains = [100 * told[names[0]]["y"][place] for place in places]
    assert list(drawn.dimensions[-1]["values"]) == pytest.approx(gains)
    on_front = [float(told[names[0]]["on_front"][place]) for place in places]
    assert list(drawn.line.color) == on_front
    assert set(on_front) == {0.0, 1.0}


def test_the_population_by_age(service: Running, run: Run) -> None:
    told = ask(service, "/ages")
    others, front = plot.population(run).data
    wanted = sorted((one["age"], 100 * one["gain"], one["on_front"]) for one in told["members"])
    drawn = [(age, gain, trace is front) for trace in (others, front)
             for age, gain in zip(trace.x, trace.y, strict=True)]  # fmt: skip
    assert np.array(sorted(drawn)) == pytest.approx(np.array(wanted))
    assert front.text[0].partition(":")[0] in {str(one["birth"]) for one in told["members"]}


def test_shares_of_primitives(service: Running, run: Run) -> None:
    told = ask(service, "/primitive-shares?bins=8")
    for of in plot.SETS:
        (drawn,) = plot.primitives(run, of, bins=8).data
        assert list(drawn.x) == told["births"]
        assert list(drawn.y)[::-1] == [row["primitive"] for row in told["rows"]]
        wanted = [[None if one is None else 100 * one for one in row[of]] for row in told["rows"]]
        assert [list(row) for row in drawn.z][::-1] == wanted
    with pytest.raises(ConfigError, match="expected proposals, survivors, front"):
        plot.primitives(run, "moons")


def test_a_search_in_memory_says_what_to_do() -> None:
    store = MemoryStore()
    store.create(NAME, "title", ev.Created(config=CONFIG))
    with pytest.raises(ConfigError, match="give db=a path or URL"):
        plot.funnel(Run(store, NAME, no_pool, show=False))
