"""What other searches learnt: the shipped file, and searches that begin with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evosearch import events as ev
from evosearch.errors import ConfigError
from evosearch.experience import SHIPPED, Experience, load, shipped
from evosearch.odds import AFTER, KEPT, Odds, Trial, extra_trees
from evosearch.presets import load_preset
from evosearch.state import State
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.traits import TRAITS, traits
from tests.benchmarks import study_experience
from tests.benchmarks.record import read_rows

GOOD, BAD = parse("tanh(x) / std_batch(x)"), parse("x * x + max(x, zero)")


def begun(*more: str) -> State:
    settings = ("evolution.choose_of=4", "evolution.experience=true", *more)
    return State(ev.Created(config=load_preset("quickstart", settings)))


def test_the_shipped_experience_is_of_these_traits_and_of_layers_of_every_worth() -> None:
    told = load()
    assert told.traits.shape == (len(told.worth), len(TRAITS))
    assert np.isfinite(told.traits).all()
    assert told.worth.min() == 0.0
    assert told.worth.max() == 1.0
    assert (told.worth > 0).sum() >= 200
    assert len(told.worth) >= 3000
    assert SHIPPED.stat().st_size < 1 << 20


def test_the_shipped_experience_is_that_of_the_searches_that_are_kept() -> None:
    found, groups = study_experience.gathered(read_rows([study_experience.ROWS]))
    told = load()
    assert len(set(groups)) >= 10
    assert (found.worth == told.worth).all()
    assert found.traits == pytest.approx(told.traits, abs=1e-4)


def test_it_knows_published_layers_from_what_explodes() -> None:
    layers = [CATALOG[name].graph for name in ("bn-relu", "bn-silu", "gn-silu", "evonorm-b0")]
    bad = [parse(text) for text in ("x * x", "x * x + max(x, zero)", "sigmoid(x) * v1", "x + x")]
    expected = extra_trees(*shipped()).predict([traits(graph) for graph in layers + bad])
    assert min(expected[: len(layers)]) > 2.0 * max(expected[len(layers) :])


def test_a_search_that_begins_with_it_chooses_from_the_first_candidate_on() -> None:
    state = begun()
    assert state.choice.decided == 0
    told = Odds().of(state, [BAD, GOOD])
    assert told is not None
    assert told[1] > 2.0 * told[0]
    assert Odds().of(begun("evolution.experience=false"), [BAD, GOOD]) is None
    assert {Odds().wanted(state, birth) for birth in range(100)} == {1, 4}
    assert Odds().wanted(begun("evolution.experience=false"), 0) == 1


def test_its_own_verdicts_soon_outweigh_it() -> None:
    """A task on which everything is the other way round is learnt all the same."""

    def odds_after(verdicts: int) -> float:
        state = begun()
        rng = np.random.default_rng(1)
        for _ in range(verdicts):
            good = bool(rng.random() < 0.5)
            state.choice.trials.append(Trial(GOOD if good else BAD, None if good else rng.random()))
        state.choice.decided = verdicts
        found = Odds().of(state, [BAD, GOOD])
        assert found is not None
        return found[1] - found[0]

    assert odds_after(0) > 0.01
    assert odds_after(AFTER) < 0.0
    assert odds_after(KEPT) < 0.0


def test_a_file_of_other_traits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "experience.npz"
    one = Experience(np.zeros((2, len(TRAITS)), np.float32), np.array([0.0, 1.0], np.float32))
    one.save(target)
    assert (load(target).worth == one.worth).all()
    monkeypatch.setattr("evosearch.experience.TRAITS_VERSION", 99)
    with pytest.raises(ConfigError, match=r"experience of other traits.*version 99"):
        load(target)


def test_searches_are_recorded_and_become_an_experience(tmp_path: Path) -> None:
    more = ("evolution.choose_of=8", "task.steps=2", "checks.quality.enabled=false",
            "checks.hurdles.steps=[]", 'task.anchors=[{name="resnet", width=8}]')  # fmt: skip
    rows = [study_experience.search("bred", seed, 16, more) for seed in (1, 2)]
    verdicts = [len(row["trials"]) for row in rows]
    assert all(row["evaluated"] > 1 for row in rows)
    assert verdicts == [row["evaluated"] + sum(row["rejected"].values()) for row in rows]
    study_experience.keep(rows, tmp_path / "rows.jsonl.gz")
    assert read_rows([tmp_path / "rows.jsonl.gz", tmp_path / "none"]) == json.loads(
        json.dumps(rows)
    )
    found, groups = study_experience.gathered(rows)
    assert [int((groups == number).sum()) for number in (0, 1)] == verdicts
    means = [mean for row in rows for *_, mean in row["trials"]]
    assert [worth > 0 for worth in found.worth] == [mean is not None for mean in means]
    best = max(mean for mean in means if mean is not None)
    assert found.worth[means.index(best)] == 1.0
    told = study_experience.judged(found, groups)
    assert 0.0 <= told["auc"] <= 1.0
    assert 0.0 < told["plain"]["trained"] < 1.0
