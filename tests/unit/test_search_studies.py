"""What the studies of search compare, how they judge, and the page that is made of it."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from docs import make_search_efficiency as efficiency
from docs import make_table, search_ingredients
from evosearch.config import Evolution, SearchConfig
from evosearch.errors import ConfigError
from evosearch.presets import load_preset
from tests.benchmarks import study_search
from tests.benchmarks.record import RESULTS, read_rows
from tests.benchmarks.rivals import INGREDIENTS, KINDS, OURS, RIVALS, THE_PAPERS, VARIANTS
from tests.benchmarks.rivals import same_search as same
from tests.benchmarks.search_paths import (
    along,
    bands,
    compare,
    median,
    over_default,
    reached,
    summary,
    targets,
)

DECIDES_NOTHING = ("max_proposals", "remeasure_share", "challenge_seeds")
"""Settings of evolution that say nothing alone: fresh seeds are all off in the paper's."""


def having(variant: str, *more: str) -> SearchConfig:
    return load_preset("quickstart", (*VARIANTS[variant], *more))


def test_the_paper_is_the_papers_preset() -> None:
    fields = set(Evolution.model_fields) - {"max_proposals"}
    paper = having("paper")
    assert all(
        getattr(paper.evolution, one) == getattr(THE_PAPERS.evolution, one) for one in fields
    )
    assert paper.evolution.population_size == 2500
    assert paper.space == THE_PAPERS.space
    assert paper.checks.hurdles.steps == ()
    for name in RIVALS:  # with the default's checks before the training, whatever else
        assert having(name).checks.signal == OURS.checks.signal
        assert having(name).checks.quality == OURS.checks.quality


def test_rivals_with_hurdles_have_every_check_of_the_default() -> None:
    for name in (one for one in RIVALS if "hurdles" in one):
        config = having(name)
        assert config.checks == OURS.checks
        assert config.evolution.same_start == OURS.evolution.same_start > 0
        assert config.evolution.alike == OURS.evolution.alike < 1.0
    ours = having("paper, our population").evolution
    assert ours.population_size == OURS.evolution.population_size
    assert ours.tournament_share == OURS.evolution.tournament_share
    assert ours.random_share == THE_PAPERS.evolution.random_share
    assert {one for kind in KINDS.values() for one in kind} == set(RIVALS)


def test_every_difference_from_the_paper_has_a_line_of_its_own() -> None:
    default, paper = OURS.evolution, THE_PAPERS.evolution
    differ = {
        one for one in set(Evolution.model_fields) - set(DECIDES_NOTHING)
        if getattr(default, one) != getattr(paper, one)
    }  # fmt: skip
    assert {"operators", "warm_up", "random_share", "tournament_share"} <= differ
    lines = {name: having(name) for name in INGREDIENTS}

    def changed(config: SearchConfig) -> set[str]:
        fields = Evolution.model_fields
        return {one for one in fields if getattr(config.evolution, one) != getattr(default, one)}

    together = {"tournament_share", "tournament_min"}
    for field in differ:
        mine = [one for one in lines.values() if changed(one) <= {field} | together
                and getattr(one.evolution, field) == getattr(paper, field)]  # fmt: skip
        assert mine, field
    left = {frozenset(one.evolution.operators) for one in lines.values()}
    assert left >= {frozenset(default.operators) - {one} for one in default.operators}


def test_variants_that_cannot_differ_are_known() -> None:
    whole = having("default")
    assert not same(having("primitives drawn by rows"), whole)
    single = 'space.allow=["max", "div", "rms_batch", "std_batch"]'
    assert same(having("primitives drawn by rows", single), having("default", single))
    several = 'space.allow=["max", "div", "rms_batch", "rms_group"]'
    assert not same(having("primitives drawn by rows", several), having("default", several))
    others = VARIANTS.keys() - {"default", "primitives drawn by rows"}
    assert not any(same(having(name, single), having("default", single)) for name in others)


def row(variant: str, seed: int, path: list[tuple[int, float, float]], **more: Any) -> Any:
    return {
        "variant": variant, "seed": seed, "budget": 100, "steps": 100, "seconds": 10.0,
        "path": path, "hypervolume": path[-1][2] if path else 0.0, "evaluated": 3, "asked": 5,
        "outside": 1, "proposals": 9, "exhausted": False, "fresh_seeds": 2,
        "fresh_seeds_refused": 1, **more,
    }  # fmt: skip


PEAK = [(10, 1.0, 0.5), (20, 2.0, 0.1), (40, 4.0, 0.6)]
ROWS = [
    *(row("default", seed, PEAK) for seed in (1, 2, 3)),
    row("random", 1, [(80, 8.0, 0.5)]), row("random", 2, []), row("random", 3, []),
    *(row("random with hurdles", seed, [(50, 5.0, 0.3)]) for seed in (1, 2, 3)),
    *(row("paper", seed, [(30, 3.0, 0.2), (60, 6.0, 0.7)]) for seed in (1, 2, 3)),
    *(row("no hurdles", seed, [(90, 9.0, 0.5)], steps=95, exhausted=True) for seed in (1, 2, 3)),
]  # fmt: skip


def test_a_lucky_peak_is_not_the_headline_and_nothing_is_not_won() -> None:
    found = compare(ROWS, "random", "default")
    assert (found["seeds"], found["nothing_to_reach"]) == (1, 2)
    assert found["steps"]["share"]["value"] == 0.4
    assert found["steps"]["first_touch"]["value"] == 0.1
    assert found["steps"]["of_rivals_own"]["value"] == 0.5
    # Of 0.4, and of two seeds on which something has to be there for good: from 0.1 on.
    assert found["share_of_all"]["steps"] == {"value": 0.1, "low": 0.1, "high": 0.4}
    alone = compare([*ROWS[:3], row("random", 1, [])], "random", "default")
    assert (alone.pop("share_of_all")["seconds"]["value"], alone) == (
        0.1, {"seeds": 0, "nothing_to_reach": 1},
    )  # fmt: skip
    assert compare(ROWS[:3], "random", "default")["share_of_all"] == {}
    never = compare(ROWS, "paper", "default")
    assert never["steps"]["share"]["value"] is None
    assert never["steps"]["reached_by"] == 0.0


def test_what_a_search_has_along_its_way_is_compared_seed_by_seed() -> None:
    # 0 until 10, 0.5 until 20, 0.1 until 40 and 0.6 until 100, where its budget ends.
    assert along(row("default", 1, [*PEAK, (120, 12.0, 9.0)])) == pytest.approx(0.43)
    assert along(row("default", 1, [])) == 0.0
    rows = [*(row("default", seed, [(0, 0.0, 1.0)]) for seed in (1, 2, 3)),
            row("no hurdles", 1, [(10, 0.0, 1.0)]), row("no hurdles", 2, [(50, 0.0, 1.0)]),
            row("no warm-up", 3, [(50, 0.0, 1.0)])]  # fmt: skip
    found = over_default(rows, "no hurdles")
    assert found is not None
    assert (found["seeds"], found["value"]) == (2, pytest.approx(-0.3))
    assert found["low"] < -0.3 < found["high"]
    assert over_default(rows, "default") is None
    assert over_default(rows, "no warm-up") is None  # one seed has no interval
    assert (
        over_default([row("default", seed, []) for seed in (1, 2)] + rows[3:], "no hurdles") is None
    )


def test_the_page_says_which_ingredients_earn_their_place() -> None:
    changes = {"no hurdles": (-0.2, -0.1), "no warm-up": (0.1, 0.2), "no experience": (-0.1, 0.1),
               "no fresh seeds": (0.0, 0.0), "parsimony": (-0.1, 0.2)}  # fmt: skip
    found = {
        name: {"over_default": {"value": (low + high) / 2, "low": low, "high": high}}
        for name, (low, high) in changes.items()
    }
    assert list(search_ingredients.what_earns_its_place(found)) == [
        "- Worse without: no hurdles. Better without: no warm-up. The same with every seed, for "
        "nothing comes of it within the budget: no fresh seeds. Nothing sure of the other 1.",
        "- Worse with: none. Better with: none. The same with every seed, for nothing comes of it "
        "within the budget: none. Nothing sure of the other 1.",
    ]


def test_the_page_says_how_far_seconds_of_the_same_search_differ() -> None:
    nothing, something = {"low": 0.0, "high": 0.0}, {"low": 0.0, "high": 0.1}
    seconds = {
        "no warm-up": (7.74, nothing),
        "restarts": (10.6, nothing),
        "parsimony": (1.0, something),
    }
    found = {
        name: {"controller_seconds": {"value": value}, "over_default": over}
        for name, (value, over) in seconds.items()
    }
    told = "".join(search_ingredients.how_far_seconds_tell(found))
    assert "in lines that are the same searches as the default's they are 7.7 to 10.6." in told
    del found["restarts"]
    assert not list(search_ingredients.how_far_seconds_tell(found))


def test_targets_are_judged_by_the_hardest_rival() -> None:
    judged = targets(summary(ROWS))
    assert judged["random"]["unmeasured"] == []
    assert judged["random"]["steps"]["hardest"] in ("random", "random with hurdles")
    assert judged["random"]["steps"]["met"] is False  # .4 of both
    assert judged["paper"]["steps"]["met"] is False  # never reached
    assert len(judged["paper"]["unmeasured"]) == 3
    easy = [one for one in ROWS if one["variant"] != "paper"]
    assert "steps" not in targets(summary(easy))["paper"]
    assert summary(ROWS)["no hurdles"]["exhausted"] == 3


@pytest.mark.parametrize(
    ("value", "high", "seeds", "unmeasured", "told"),
    [
        (0.4, 0.5, 9, [], "met"),
        (0.4, 0.51, 9, [], "met at the median; the interval holds more"),
        (0.4, None, 9, [], "met at the median; the interval holds more"),
        (0.6, 0.7, 9, [], "**missed**"),
        (None, None, 9, [], "**missed**"),
        (0.4, 0.5, 3, [], "met, on 3 seeds alone"),
        (0.4, 0.5, 5, [], "met, on 5 seeds alone; over all 7: 0.40 [0.30, 0.50]"),
        (0.6, 0.7, 3, [], "**missed**"),
        (0.4, 0.5, 9, ["paper"], "met; of the rivals measured so far"),
        (0.4, 0.6, 9, ["paper"], "met at the median; the interval holds more; of the rivals "
         "measured so far"),
        (0.6, 0.7, 9, ["paper"], "**missed**; of the rivals measured so far"),
    ],
)  # fmt: skip
def test_a_target_is_met_at_the_median_and_what_is_unsure_of_it_is_said(
    value: float | None, high: float | None, seeds: int, unmeasured: list[str], told: str
) -> None:
    one = {
        "seeds": seeds, "nothing_to_reach": 2,
        "share_of_all": {"value": value, "low": 0.3, "high": high},
        "wanted": 0.5, "met": value is not None and value <= 0.5,
        "share": {"value": value, "low": 0.3, "high": high},
    }  # fmt: skip
    assert efficiency.judgement(one, unmeasured) == told


def test_a_line_is_drawn_until_the_budget_and_not_beyond() -> None:
    rows = [row("a", 1, PEAK), row("a", 2, PEAK, seconds=7.0),
            row("b", 1, PEAK, exhausted=True, steps=50, seconds=5.0)]  # fmt: skip
    steps, seconds = bands(rows, 0), bands(rows, 1)
    assert (steps["a"][-1].x, steps["b"][-1].x) == (100.0, 100.0)
    assert steps["b"][-1].middle == 0.6
    assert (seconds["a"][-1].x, seconds["b"][-1].x) == (7.0, 5.0)


def of_study(**more: Any) -> dict[str, Any]:
    settings = {"dataset": "d", "data": "1", "steps": 100, "code": "c", "config": "x", **more}
    return row("default", len(str(more)), PEAK, settings=settings)


def test_rows_of_several_studies_are_not_mixed() -> None:
    study_search.refuse_mixed([of_study(), of_study()])
    study_search.refuse_mixed([of_study(), {**of_study(config="y"), "variant": "paper"}])
    for other in ({"dataset": "e"}, {"data": "2"}, {"steps": 7}, {"code": "d"}, {"config": "y"}):
        with pytest.raises(ConfigError, match="several studies"):
            study_search.refuse_mixed([of_study(), of_study(**other)])
    with pytest.raises(ConfigError, match="several studies"):
        study_search.refuse_mixed([of_study(), row("default", 9, PEAK)])


def test_a_report_is_made_of_the_rows_of_one_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(variant: str, seed: int, unseen: float | None) -> dict[str, Any]:
        own = {"dataset": "d", "data": "1", "steps": 100, "code": "c", "config": variant}
        return row(
            variant, seed, [] if variant in study_search.ALONE else PEAK, settings=own,
            references={"resnet": 0.5}, audit={"audited": 3, "wrong": 1}, leader="x", fresh=unseen,
            unseen=unseen,
        )  # fmt: skip

    names = ("default", "random", *study_search.ALONE)
    rows = [kept(name, seed, 0.1 if seed else None) for name in names for seed in (0, 1, 2)]
    file, again = tmp_path / "rows.jsonl", tmp_path / "again.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    options = Namespace(files=[file, tmp_path / "none.jsonl"], out=tmp_path)
    monkeypatch.setattr(study_search, "FIRST", 2)
    study_search.report(options)
    told = json.loads((tmp_path / "search.json").read_text())
    assert told["seconds_are"] == "processor seconds"
    assert told["summary"].keys() == {"default", "random"}
    each = {"audited": 9, "wrong": 3}
    assert told["signal"]["in_the_searches"] == dict.fromkeys(names, each)
    assert told["unseen_network"]["three_minus_one"]["left_out"] == 1
    two = [one for one in rows if one["variant"] in ("default", "random") and one["seed"] < 2]
    assert told["first"] == {"seeds": 2, "targets": json.loads(json.dumps(targets(summary(two))))}
    assert (tmp_path / "search_steps.svg").exists()
    (tmp_path / "search_seconds.svg").unlink()
    assert "processor seconds" in efficiency.page(tmp_path)
    again.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ConfigError, match="each search once"):
        study_search.report(Namespace(files=[file, again], out=tmp_path))


@pytest.mark.parametrize("name", ["table", "search"])
def test_committed_results_are_those_of_the_committed_rows(name: str) -> None:
    file = RESULTS / f"{name}.json"
    if not file.exists():
        # A study that goes on has rows and no result yet: they must be of one study.
        study_search.refuse_mixed(read_rows([RESULTS / f"{name}_rows.jsonl.gz"]))
        return
    told = json.loads(file.read_text())
    rows = read_rows([RESULTS / f"{name}_rows.jsonl.gz"])
    found = summary([row for row in rows if row["variant"] not in study_search.ALONE])
    assert json.loads(json.dumps(found)) == told["summary"]
    assert json.loads(json.dumps(targets(found))) == told["targets"]


def test_searches_without_a_leader_are_counted_and_left_out() -> None:
    values = {
        "default": [0.1, 0.3, None], "resnet alone": [0.0, 0.1, 0.2],
        "mobilenetv2 alone": [0.0, 0.1, None], "efficientnet alone": [0.0, None, 0.2],
    }  # fmt: skip
    rows = [
        {"variant": name, "seed": seed, "unseen": value, "evaluated": 3 * seed}
        for name, some in values.items() for seed, value in enumerate(some)
    ]  # fmt: skip
    found = study_search.transfer(rows)
    assert found["default"]["value"] == pytest.approx(0.2)
    assert found["default"]["without_a_leader"] == 1
    assert (found["three_minus_one"]["seeds"], found["three_minus_one"]["left_out"]) == (1, 2)
    assert found["default"]["evaluated"] == 3.0
    nobody = study_search.transfer([rows[2]])
    assert nobody == {"default": {"searches": 0, "without_a_leader": 1, "evaluated": 6.0}}


def test_the_papers_claim_is_judged_by_the_interval_of_three_minus_one() -> None:
    def told(value: float) -> str:
        return efficiency.what_of_the_claim({"value": value, "low": value - 1, "high": value + 1})

    assert told(1.5).startswith("The claim holds here")
    assert told(0.5).startswith("The interval holds 0")
    assert told(-1.5).startswith("**The claim does not hold here**")


def test_the_studys_signal_bounds_never_saw_its_data() -> None:
    known = json.loads(study_search.BOUNDS.read_text())
    assert {one["dataset"] for one in known["fitted_on"]} == {"polarity-digits"}
    assert {one["dataset"] for one in known["judged_on"]} == {"fashion-mnist"}
    assert known["bounds"].keys() == OURS.checks.signal.bounds.keys()


def table_result() -> dict[str, Any]:
    found = summary(ROWS)
    return {
        "table": {"primitives": ["max"], "nodes": 2, "where": "pointwise", "functions": 9,
                  "held": 9},
        "conditions": {"tables": 1, "stored_seeds": 5, "held_out": 2, "arrangements": 60, "met": 7},
        "seconds_are": "simulated seconds",
        "options": {"steps": 100}, "left_out": {"primitives drawn by rows": "the same"},
        "targets": targets(found), "summary": found,
        "default_with_their_seeds": summary([one for one in ROWS if one["seed"] < 3])["default"],
    }  # fmt: skip


def search_result() -> dict[str, Any]:
    one = {
        "searches": 3,
        "without_a_leader": 1,
        "evaluated": 9.0,
        "value": 0.1,
        "low": -0.1,
        "high": 0.3,
    }
    share = {"candidates": 9, "failures_rejected": 0.9, "good_wrongly_rejected_count": 1,
             "pass_quality": 5}  # fmt: skip
    data = [{"dataset": "polarity-digits"}]
    return {
        "dataset": "fashion-mnist", "budget": 100, "seconds_are": "processor seconds",
        "held_out_seeds": 2, "unseen_rates": [0.1, 0.2],
        "unseen_seeds": {"to choose the rate": 3, "reported": 5},
        "signal": {"fitted_on": data, "judged_on": data, "judged": share,
                   "in_the_searches": {"default": {"audited": 4, "wrong": 1}}},
        "targets": targets(summary(ROWS)), "summary": summary(ROWS),
        "unseen_network": {"default": one, "resnet alone": one,
                           "three_minus_one": {**one, "seeds": 2, "left_out": 1}},
    }  # fmt: skip


def cells(page: str) -> list[int]:
    """Cells of each row of each table, where a table's rows do not agree."""
    widths: list[list[int]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            widths[-1].append(line.count("|"))
        elif widths[-1]:
            widths.append([])
    return [len(set(one)) for one in widths if one]


def test_the_page_says_what_there_is_and_names_what_is_not(tmp_path: Path) -> None:
    empty = efficiency.page(tmp_path)
    assert empty.count("Not measured yet") == 3
    assert "What was tried" not in empty
    (tmp_path / "table.json").write_text(json.dumps(table_result()))
    half = efficiency.page(tmp_path)
    assert half.count("Not measured yet") == 3
    assert "20,000" not in half
    assert "60 ways" in half
    assert "| default, with the seeds of the lines below |" in half
    assert "No other trial is recorded" in half
    real = search_result() | {"first": {"seeds": 3, "targets": targets(summary(ROWS))}}
    (tmp_path / "search.json").write_text(json.dumps(real))
    assert "fixed beforehand |" not in efficiency.page(tmp_path)  # these were all
    real["first"]["seeds"] = 2
    (tmp_path / "search.json").write_text(json.dumps(real))
    longer = table_result()
    longer["options"]["steps"] = 20_000
    (tmp_path / "table_longer.json").write_text(json.dumps(longer))
    (tmp_path / "search_tried.md").write_text("A larger tournament: no better.\n")
    (tmp_path / "search_seconds.svg").write_text("<svg/>")
    whole = efficiency.page(tmp_path)
    assert "Not measured yet" not in whole
    assert "The same table with 20,000, " in whole
    assert "(9 [9, 9] proposals of the default, and 9 [9, 9] with 100 steps)" in whole
    assert "2 seeds were fixed beforehand, and the others were added" in whole
    for where in ("the 2 seeds fixed beforehand", "all 3 seeds"):
        row = f"| in real runs, {where} | random with hurdles | training steps | 0.40 |"
        assert row in whole
    assert "- in real runs, with the seeds that were fixed beforehand, steps: not reached" in whole
    assert "A larger tournament: no better." in whole
    assert "| on the table | paper | training steps | not reached | 0.50 | " in whole
    assert "| **missed**; of the rivals measured so far |" in whole
    assert "(pictures/search_seconds.svg)" in whole
    assert "(pictures/search_steps.svg)" not in whole
    assert "processor seconds" in whole
    assert "simulated seconds" in whole
    for page in (empty, half, whole):
        assert set(cells(page)) == {1}


def test_the_tables_statistics_are_written_into_its_page() -> None:
    begin, end = make_table.BEGIN, make_table.END
    text = f"before\n{begin}\nstale\n{end}\nafter"
    figures = {
        "space": {"functions": 10, "in_the_table": 9}, "seeds": 5, "viable": 4,
        "uncrowded": {"functions": 8, "viable": 3},
        "published": {"relu": {}}, "beats": {"bn-relu": {"mean": 3, "every_anchor": 1}},
        "rank_correlation": {"a and b": 0.5, "a and c": None},
        "noise": {"a": {"between": 0.1, "noise": 0.02, "seeds": 16}},
        "random_proposals": {"viable": {"half": 7, "nine_tenths": 70, "all": 700}, "functions": {}},
    }  # fmt: skip
    for found, word in ((figures, "| bn-relu | 3 | 1 |"), ({}, "Not measured yet")):
        page = make_table.with_statistics(text, found)
        assert word in page
        assert "stale" not in page
        assert page.startswith("before")
        assert page.endswith("after")
        assert make_table.with_statistics(page, found) == page
    assert make_table.BEGIN in make_table.TARGET.read_text()


def test_where_a_path_reaches_a_level() -> None:
    path = [(10, 1.0, 0.2), (20, 2.0, 0.5), (30, 3.0, 0.4), (40, 4.0, 0.6)]
    assert reached(path, 0.5, 0, stays=False) == 20
    assert reached(path, 0.5, 1, stays=True) == 4.0
    assert reached(path, 0.7, 0, stays=False) == math.inf
    assert reached([], 0.0, 0, stays=True) == 0.0
    middle = median([1.0, 2.0, math.inf])
    assert (middle["value"], middle["high"]) == (2.0, None)
