"""Parts of the charts' figures against plain computations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from api.charts import ledgers
from api.charts.genes import NAMES, genes_of
from api.charts.ledger import Ledger
from api.charts.pace import pace, silences
from api.charts.progress import _busy_until, progress, thinned
from api.charts.scatter import _rounded
from api.rest.charts import MAX_COMPARED
from evosearch.events import Event, StatusChanged
from evosearch.gain import Noise, Samples, better_baseline, gains, margins
from evosearch.ports import SearchInfo
from primitives.catalog import CATALOG
from primitives.ops import typed_name
from primitives.properties import properties
from primitives.structure import analyse
from tests.support.events import (
    CONFIG,
    evaluated,
    job_finished,
    queued,
    rejected,
    standing,
)


@pytest.mark.parametrize("name", CATALOG)
def test_genes_are_what_the_graph_says(name: str) -> None:
    graph = CATALOG[name].graph
    mask, nodes, moved = genes_of(graph.to_json()["nodes"])
    used = {typed_name(graph.node(i).op, graph.node(i).over) for i in graph.live_ops()}
    assert {one for place, one in enumerate(NAMES) if mask >> place & 1} == used
    assert nodes == analyse(graph).live_nodes
    assert moved == properties(graph).bytes_moved


def test_a_mask_has_room_for_every_primitive() -> None:
    assert len(set(NAMES)) == len(NAMES) <= 64


def test_rounding_is_that_of_text() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=3000) * 10.0 ** rng.integers(-8, 9, size=3000)
    expected = [float(f"{one:.6g}") for one in values]
    assert _rounded(values, 6) == pytest.approx(expected, rel=1e-14)
    assert _rounded(np.array([0.0, 123456.7]), 6).tolist() == [0.0, 123457.0]
    assert math.isnan(_rounded(np.array([np.nan]), 6)[0])


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 1000])
def test_thinning_keeps_both_ends(count: int) -> None:
    kept = thinned(list(range(count)), 6)
    assert len(kept) == min(count, 6)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert kept == sorted(set(kept))


def test_work_is_shared_out_over_bins() -> None:
    edges = np.array([0.0, 10.0, 20.0, 30.0])
    starts, ends = np.array([5.0, 12.0, 0.0]), np.array([15.0, 14.0, 30.0])
    busy = np.diff(_busy_until(edges, starts, ends))
    assert busy.tolist() == [5.0 + 10.0, 5.0 + 2.0 + 10.0, 10.0]


def run(score: float, seed: int, **more: object) -> dict[str, object]:
    return {"split": "select", "score": score, "seed": seed, "learning_rate": 0.2, "seconds": 3.0,
            "steps": 100} | more  # fmt: skip


def test_only_select_at_the_tasks_rate_counts() -> None:
    samples = Samples(("a",), 0.2)
    samples.add("bn-relu", "baseline", 0, run(0.5, 1))
    samples.add("bn-relu", "tune", 0, run(0.9, 2, learning_rate=0.4))
    samples.add("bn-relu", "final", 0, run(0.9, 3, split="final"))
    samples.add("bn-silu", "baseline", 0, run(0.4, 1))
    found = better_baseline(samples, ("bn-silu", "bn-relu"))
    assert found is not None
    assert (found.names, found.means.tolist(), found.seeds.tolist()) == (("bn-relu",), [0.5], [1])
    assert samples.noise() is None  # nobody has two seeds
    assert better_baseline(Samples(("a",), 0.2), ("bn-relu",)) is None


@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_an_interval_covers_the_truth_as_often_as_it_says(shared: float) -> None:
    """Also where a seed is a good or a bad one of a layer on all anchors together."""
    rng = np.random.default_rng(1)
    hits, rounds, gap, spread = 0, 400, 0.03, 0.02
    for _ in range(rounds):
        samples = Samples(("a", "b"), 0.2)
        for seed in range(4):
            theirs, ours = rng.normal(0.5, shared), rng.normal(0.5 + gap, shared)
            for place in (0, 1):
                samples.add("bn-relu", "baseline", place, run(theirs + rng.normal(0, spread), seed))
                samples.add(7, "confirm", place, run(ours + rng.normal(0, spread), seed))
        base, noise = better_baseline(samples, ("bn-relu",)), samples.noise()
        assert base is not None
        scores = np.array([samples.confirmed()[7]])
        _, _, mean, margin = gains(scores, np.array([4]), base, noise)
        hits += abs(mean[0] - gap) <= margin[0]
    assert 0.91 < hits / rounds < 0.99


def test_margins_need_noise_and_shrink_with_seeds() -> None:
    one, many = np.array([[1.0]]), np.array([[9.0]])
    assert np.isnan(margins(None, one, np.array([1.0]))).all()
    noise = Noise(np.array([0.01]), 0.01, 10)
    assert margins(noise, many, np.array([9.0])) < margins(noise, one, np.array([1.0]))


def test_the_pace_leaves_pauses_and_absences_out() -> None:
    ledger = Ledger(CONFIG)
    now = [datetime(2026, 1, 1, tzinfo=UTC)]

    def fold(event: Event, later: float = 0.0) -> None:
        now[0] += timedelta(seconds=later)
        ledger.fold(ledger.last + 1, now[0], event.kind, event.model_dump_json())

    def ten(first: int) -> None:
        for birth in range(first, first + 10):
            fold(queued(birth))
            fold(evaluated(birth, standing([0.5, 0.5, 0.5])), 10.0)

    assert pace(ledger) == (None, 0.0)
    ledger.fold(1, now[0] - timedelta(hours=1), "created", "")  # then it waited for a controller
    assert pace(ledger) == (None, 0.0)
    ten(1)
    fold(StatusChanged(status="paused"))
    fold(StatusChanged(status="running"), 3600.0)
    ten(11)
    now[0] += timedelta(hours=2)  # nobody ran it, and nobody said so
    ten(21)
    told = [(one.kind, one.text, one.place.evaluated) for one in silences(ledger)]
    assert told == [("silence", "no work for 2:00:08", 20)]  # a piece takes 2.5 s of each 10
    marks = progress(ledger, now[0], now[0], 2, 0.0).marks
    assert [one.kind for one in marks] == ["pause", "resume", "silence"]
    rate, hours = pace(ledger)
    assert hours == pytest.approx((30 * 10 + 30) / 3600)  # a silence counts 30 s at most
    assert rate == pytest.approx(29 * 3600 / (29 * 10 + 30))
    for birth in range(31, 41):  # a drought of evaluations slows it
        fold(queued(birth))
        fold(rejected(birth), 10.0)
    assert pace(ledger)[0] == pytest.approx(29 * 3600 / (39 * 10 + 30))


def test_as_many_ledgers_are_kept_as_a_page_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Log:
        """A log of one event for each search."""

        def after(self, search_id: str, seq: int, kinds: object) -> Iterator[tuple[Any, ...]]:
            read.append(search_id)
            event = queued(1)
            yield 1, datetime(2026, 1, 1, tzinfo=UTC), event.kind, event.model_dump_json()

    kept = ledgers.Ledgers(Log())  # type: ignore[arg-type]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    infos = [SearchInfo(id=f"s{k}", title="", config=CONFIG, status="running",
                        evaluated=0, hypervolume=0.0, created_at=now, updated_at=now, last_seq=1,
                        here_since=now)
             for k in range(MAX_COMPARED)]  # fmt: skip
    for _ in range(3):  # as a page asks again and again
        for info in infos:
            with kept.of(info) as ledger:
                assert len(ledger.birth) == 1
    assert len(read) == MAX_COMPARED
    monkeypatch.setattr(ledgers, "ROWS", 10)
    with kept.of(infos[0]):
        assert len(kept._known) == 10
    monkeypatch.setattr(ledgers, "ROWS", 0)
    with kept.of(infos[1]):
        assert list(kept._known) == [infos[1].key]  # what is used stays, however large


def test_a_confirmed_leader_stands_until_another_is_surer() -> None:
    ledger = Ledger(CONFIG)
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def fold(*events: Event) -> None:
        for event in events:
            ledger.fold(ledger.last + 1, at, event.kind, event.model_dump_json())

    def stands(birth: int, score: float, seeds: int) -> Event:
        return job_finished(f"r{birth}", birth, "remeasure", standing([score] * 3, seeds=seeds))

    def leads() -> tuple[int, int]:
        lead = ledger.leader()
        assert lead is not None
        return lead.birth, lead.seeds

    for birth, score in ((1, 0.5), (2, 0.9), (3, 0.6)):
        fold(queued(birth), evaluated(birth, standing([score] * 3)))
    assert leads() == (2, 1)  # nobody is sure: the highest
    fold(stands(1, 0.52, 2))
    assert leads() == (1, 2)
    fold(stands(3, 0.58, 2))
    assert leads() == (3, 2)
    fold(stands(3, 0.4, 3))  # its luck is over
    assert leads() == (1, 2)
    assert [one.birth for one in ledger.sure_leads] == [1, 3, 1]
    assert ledger.lead_at(5) is not None
    assert ledger.lead_at(4).birth == 2  # type: ignore[union-attr]


class Looked(dict[int, Any]):
    """Counts how often something is looked up."""

    times = 0

    def __getitem__(self, key: int) -> Any:
        self.times += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("digits", [1, 6])
def test_who_leads_of_the_confirmed_is_the_plain_maximum_without_looking_at_all(
    digits: int,
) -> None:
    """With few digits many are equal; further seeds raise and lower means, the leader's too."""
    ledger, rng, at = (
        Ledger(CONFIG),
        np.random.default_rng(digits),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    ledger._sure = Looked()
    means: dict[int, float] = {}

    def fold(event: Event) -> None:
        ledger.fold(ledger.last + 1, at, event.kind, event.model_dump_json())

    births = range(1, 201)
    for birth in births:
        fold(queued(birth))
        fold(evaluated(birth, standing([0.5] * 3)))
    for number in range(1000):
        leads = ledger.sure_leads[-1].birth if ledger.sure_leads and number % 3 == 0 else None
        birth, score = leads or int(rng.choice(births)), round(float(rng.random()), digits)
        fold(job_finished(f"r{number}", birth, "remeasure", standing([score] * 3, seeds=2)))
        means[birth] = sum([score] * 3) / 3
        assert ledger.sure_leads[-1].birth == max(means, key=lambda one: (means[one], -one))
        assert ledger.sure_leads[-1].scores[0] == score or ledger.sure_leads[-1].birth != birth
    assert ledger._sure.times < 5 * 1000
