"""What a re-ranking concludes: tests against closed forms, Holm's correction, rates, verdicts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, ttest_rel

from api.commands_rerank import names_of, rates_of
from api.reporting.blocks import Table, Text
from api.reporting.rerank_tables import rerank_blocks
from api.transfers import anchor_of, default_transfer, settings_of
from evosearch import own
from evosearch.config import Anchor, Augmentation, Task
from evosearch.errors import ConfigError
from evosearch.objectives import Objective
from evosearch.own import REGISTER, collecting
from evosearch.presets import load_preset, preset_names
from evosearch.records import Evaluation, Subject
from evosearch.rerank import (
    Layer,
    Plan,
    Setting,
    Tuned,
    best_rates,
    default_rates,
    row_key,
    survivors,
)
from evosearch.rerank_result import (
    BETTER,
    MISSING,
    NEITHER,
    ONE_SEED,
    UNPROVED,
    WORSE,
    result_of,
    word,
)
from evosearch.stats import holm, paired_test
from primitives.formula import parse
from workers import datasets

RESNET, MIXER = Anchor(name="resnet"), Anchor(name="mobilenetv2")


def make_plan(**changed: object) -> Plan:
    settings = {
        "search": "abcd2345",
        "layers": (
            Layer(subject=Subject(birth=7), graph=parse("x * sigmoid(x)"), formula="seven"),
            Layer(subject=Subject(birth=9), graph=parse("tanh(x)"), formula="nine"),
            Layer(subject=Subject(baseline="bn-relu")),
            Layer(subject=Subject(baseline="bn-silu")),
        ),
        "settings": (
            Setting(dataset="polarity-digits", anchor=MIXER, searched=False),
            Setting(dataset="polarity-digits", anchor=RESNET, searched=True),
        ),
        "task": Task(anchors=(RESNET,), steps=10),
        "rates": (0.1, 0.2, 0.4),
        "tune_seeds": (1, 2),
        "final_seeds": (11, 12, 13, 14, 15, 16),
        "resamples": 300,
        "level": 0.95,
        **changed,
    }
    return Plan.model_validate(settings)


def test_without_rows_the_test_is_students_paired_one() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.7, 0.02, (2, 8, 1)), rng.normal(0.69, 0.02, (2, 8, 1))
    known = ttest_rel(ours.mean(axis=(0, 2)), theirs.mean(axis=(0, 2)))
    found = paired_test(ours, theirs)
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p == pytest.approx(known.pvalue)
    assert found.freedom == 7
    # Images that all tell the same add nothing.
    wide = paired_test(np.repeat(ours, 50, axis=2), np.repeat(theirs, 50, axis=2))
    assert wide.p == pytest.approx(known.pvalue)


def test_where_seeds_agree_images_alone_decide() -> None:
    images = np.random.default_rng(1).normal(0.01, 0.2, 400)
    ours = np.broadcast_to(images, (1, 5, 400))
    found = paired_test(ours, np.zeros_like(ours))
    z = images.mean() / (images.std(ddof=1) / 20)
    assert found.statistic == pytest.approx(z)
    assert found.p == pytest.approx(2 * norm.sf(abs(z)), rel=1e-6)


def test_equal_layers_are_found_to_differ_about_as_often_as_the_level_says() -> None:
    """With effects of seeds and of images; a test that forgot either would reject far too often."""
    rng = np.random.default_rng(2)
    low = 0
    for _ in range(400):
        seed, image = rng.normal(0, 0.02, (1, 6, 1)), rng.normal(0, 0.3, (1, 1, 100))
        difference = seed + image + rng.normal(0, 0.3, (1, 6, 100))
        low += paired_test(difference, np.zeros_like(difference)).p < 0.05
    assert 0.01 < low / 400 < 0.085


def test_what_is_certain_and_what_cannot_be_known() -> None:
    same = np.full((1, 4, 10), 0.5)
    assert paired_test(same, same).p == 1.0
    assert paired_test(same + 0.1, same).p == 0.0
    assert np.isnan(paired_test(same[:, :1], same[:, :1]).p)


def test_holms_correction_is_that_of_the_book() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    first, nothing, second = holm([0.02, float("nan"), 0.04])
    assert (first, second) == pytest.approx((0.04, 0.04))
    assert np.isnan(nothing)


def test_the_words_of_a_verdict() -> None:
    assert word(0.01, 0.049, 0.95) == BETTER
    assert word(-0.01, 0.049, 0.95) == WORSE
    assert word(0.3, 0.051, 0.95) == NEITHER
    assert word(0.3, float("nan"), 0.95) == ONE_SEED


def test_half_of_a_row_goes_on_and_ties_go_to_the_earlier() -> None:
    assert survivors({"a": 0.1, "b": 0.3, "c": 0.2}) == ["b", "c"]
    assert survivors({"a": 0.1, "b": 0.1}) == ["a"]
    assert survivors({"a": 0.1}) == ["a"]


def test_every_row_is_tuned_on_select_with_the_same_rates_and_seeds() -> None:
    plan = make_plan()
    jobs = list(plan.tune_jobs())
    assert plan.rungs == (3, 5, 10)
    assert make_plan(rates=(0.1,)).rungs == (10,)
    assert len({job.id for job in jobs}) == len(jobs) == 4 * 2 * 3
    assert {run.split for job in jobs for run in job.runs} == {"select"}
    by_row = itertools.groupby(jobs, key=lambda job: job.id.rpartition("/")[0])
    assert {
        tuple((run.seed, run.learning_rate) for job in row for run in job.runs) for _, row in by_row
    } == {((1, 0.1), (2, 0.1), (1, 0.2), (2, 0.2), (1, 0.4), (2, 0.4))}
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    finals = list(plan.final_jobs(rates))
    assert {run.split for job in finals for run in job.runs} == {"final"}
    assert not {run.seed for job in finals for run in job.runs} & set(plan.tune_seeds)
    assert [anchor.name for anchor in finals[0].task.anchors] == ["mobilenetv2"]
    assert plan.key != make_plan(rates=(0.1, 0.2)).key


def test_a_rows_rate_is_its_own_best_among_those_that_came_to_the_end() -> None:
    plan = make_plan()
    row = row_key(plan.layers[0], plan.settings[0])
    tuned = {
        f"{row}/0.1": Tuned(scores={3: (0.9, 0.9)}, ended=True),  # given up at a rung
        f"{row}/0.2": Tuned(scores={10: (0.7, 0.8)}, ended=True),
        f"{row}/0.4": Tuned(scores={10: (0.8, 0.7)}, ended=True),
    }
    assert best_rates(plan, tuned) == {row: 0.2}


def finals(plan: Plan, worth: dict[str, float], images: int = 200) -> dict:
    """Row -> seed -> evaluation; images and seeds have effects that all layers share."""
    found: dict = {}
    for layer, setting in plan.rows():
        if layer.key not in worth:
            continue
        for seed in plan.final_seeds:
            # Counter-based, so that a row's draws are its own.
            rng = np.random.default_rng([seed, *row_key(layer, setting).encode()])
            hard = np.random.default_rng(0).normal(0, 0.1, images)
            right = (rng.random(images) < worth[layer.key] + hard).astype(int)
            found.setdefault(row_key(layer, setting), {})[seed] = Evaluation(
                anchor=setting.anchor.name, seed=seed, learning_rate=0.2, split="final",
                score=float(right.mean()), steps=10, seconds=0.0, correct="".join(map(str, right)),
            )  # fmt: skip
    return found


WORTH = {"c7": 0.8, "c9": 0.62, "bn-relu": 0.6, "bn-silu": 0.62}


def test_who_is_better_is_told_and_who_is_not() -> None:
    plan = make_plan()
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    made = result_of(plan, rates, finals(plan, WORTH), {})
    assert [table["name"] for table in made["tables"]] == [
        "search: polarity-digits", "transfer: polarity-digits",
    ]  # fmt: skip
    table = made["tables"][0]
    assert (table["seeds"], table["images"], list(table["anchors"])) == (6, 200, ["resnet"])
    seven, nine = table["comparisons"]["c7"], table["comparisons"]["c9"]
    assert (seven["verdict"], nine["verdict"]) == (BETTER, NEITHER)
    assert seven["p"] < seven["p_corrected"] == pytest.approx(2 * seven["p"])
    assert 0.0 < seven["difference"]["low"] < seven["difference"]["value"]
    # Both against the better baseline, by its mean on final.
    rows = table["rows"]
    better = max(("bn-relu", "bn-silu"), key=lambda name: rows[name]["mean"]["value"])
    assert seven["better_baseline"] == {"resnet": better}
    value = rows["c7"]["mean"]["value"] - rows[better]["mean"]["value"]
    assert seven["difference"]["value"] == pytest.approx(value)
    assert made["verdict"].startswith("better: candidate 7 beats")
    assert made["verdict"].endswith(
        "of the transfers it is better in 1 of 1; no data but the search's were trained on"
    )
    assert made["at_the_edge"] == []
    worse = result_of(plan, rates, finals(plan, WORTH | {"c7": 0.3, "c9": 0.5}), {})
    assert worse["tables"][0]["comparisons"]["c7"]["verdict"] == WORSE
    assert worse["verdict"].startswith("not better")


def test_a_missing_row_is_told_and_counts_in_the_correction() -> None:
    plan = make_plan()
    rates = {row_key(*row): 0.4 for row in plan.rows()}
    some = {key: worth for key, worth in WORTH.items() if key != "c9"}
    made = result_of(plan, rates, finals(plan, some), {"c9/polarity-digits/resnet/11": "boom"})
    found = made["tables"][0]["comparisons"]
    assert found["c9"]["verdict"] == MISSING
    assert found["c7"]["p_corrected"] == pytest.approx(2 * found["c7"]["p"])
    assert len(made["at_the_edge"]) == 8
    assert made["tables"][0]["missing_baselines"] == []
    shown = rerank_blocks(made | {"judged": {"polarity-digits": 5}, "reads": 36})
    told = [block.text for block in shown if isinstance(block, Text)]
    assert any("boom" in line for line in told)
    assert any("5 layers on that of polarity-digits; 36 reads" in line for line in told)
    alone = result_of(plan, rates, finals(plan, {"c7": 0.8}), {})
    assert alone["verdict"].startswith("no verdict")


def test_nobody_is_better_where_a_baseline_is_missing() -> None:
    plan = make_plan()
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    some = {key: worth for key, worth in WORTH.items() if key != "bn-silu"}
    made = result_of(plan, rates, finals(plan, some), {})
    table = made["tables"][0]
    assert table["missing_baselines"] == ["bn-silu"]
    found = table["comparisons"]["c7"]
    assert found["p_corrected"] < 0.05
    assert found["verdict"] == found["anchors"]["resnet"]["verdict"] == UNPROVED
    assert made["verdict"].startswith("no verdict: bn-silu has no number")
    told = [one.text for one in rerank_blocks(made | {"judged": {}, "reads": 0})
            if isinstance(one, Text)]  # fmt: skip
    assert any("bn-silu has no number in search" in line for line in told)
    # What the others already hold back needs no further one.
    made = result_of(plan, rates, finals(plan, some | {"c7": 0.5, "c9": 0.5}), {})
    assert made["verdict"].startswith("not better")
    assert made["verdict"].endswith("; bn-silu has no number")
    assert made["tables"][0]["comparisons"]["c7"]["verdict"] == UNPROVED


def test_each_anchor_has_a_test_of_its_own_corrected_for_the_candidates() -> None:
    both = (Setting(dataset="polarity-digits", anchor=RESNET, searched=True),
            Setting(dataset="polarity-digits", anchor=MIXER, searched=True))  # fmt: skip
    plan = make_plan(settings=both)
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    made = result_of(plan, rates, finals(plan, WORTH), {})
    (table,) = made["tables"]
    alone = result_of(make_plan(settings=both[:1]), rates, finals(plan, WORTH), {})
    for key in ("c7", "c9"):
        one = table["comparisons"][key]["anchors"]["resnet"]
        only = alone["tables"][0]["comparisons"][key]
        assert (one["p"], one["p_corrected"]) == (only["p"], only["p_corrected"])
        assert one["verdict"] == only["verdict"]
    assert "on its own it is better on 2 of 2 anchors" in made["verdict"]
    blocks = rerank_blocks(made | {"judged": {}, "reads": 0})
    each = next(one for one in blocks if isinstance(one, Table) and one.name.endswith("-anchors"))
    assert [row[:2] for row in each.rows] == [
        (f"candidate {birth}", anchor) for birth in (7, 9) for anchor in ("resnet", "mobilenetv2")
    ]
    assert each.bold == {0, 1}


def test_a_metric_without_rows_and_a_single_seed() -> None:
    plan = make_plan(final_seeds=(11,))
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    made = result_of(plan, rates, finals(plan, WORTH), {})
    assert made["tables"][0]["comparisons"]["c7"]["verdict"] == ONE_SEED
    assert made["verdict"].startswith("no verdict: one seed tells nothing")
    bare = {
        row: {seed: one.model_copy(update={"correct": ""}) for seed, one in by_seed.items()}
        for row, by_seed in finals(make_plan(), WORTH).items()
    }
    made = result_of(make_plan(), rates, bare, {})
    assert made["tables"][0]["images"] == 1
    assert made["tables"][0]["comparisons"]["c7"]["verdict"] == BETTER


def tables_of(plan: Plan, worth: dict[str, float]) -> dict:
    rates = {row_key(*row): 0.2 for row in plan.rows()}
    return result_of(plan, rates, finals(plan, worth), {})


def test_equals_of_several_baselines_are_rarely_called_worse() -> None:
    """The better of five equals on each of three anchors was picked by the numbers themselves."""
    names = [f"bn-{number}" for number in range(5)]
    layers = (Layer(subject=Subject(birth=7), graph=parse("tanh(x)")),
              *(Layer(subject=Subject(baseline=name)) for name in names))  # fmt: skip
    plan = make_plan(
        layers=layers, resamples=2, final_seeds=tuple(range(6)),
        settings=tuple(Setting(dataset="polarity-digits", anchor=anchor, searched=True)
                       for anchor in (RESNET, MIXER, Anchor(name="convnext"))),
    )  # fmt: skip
    rng, words, alone = np.random.default_rng(3), list[str](), list[str]()
    for _ in range(300):
        made = {
            row_key(*row): {
                seed: Evaluation(anchor=row[1].anchor.name, seed=seed, learning_rate=0.2,
                                 split="final", score=float(rng.normal(0.7, 0.02)), steps=10,
                                 seconds=0.0)
                for seed in plan.final_seeds
            }
            for row in plan.rows()
        }  # fmt: skip
        (table,) = result_of(plan, {}, made, {})["tables"]
        words.append(table["comparisons"]["c7"]["verdict"])
        alone.append(table["comparisons"]["c7"]["anchors"]["resnet"]["verdict"])
    for told in (words, alone):
        assert sum(one == WORSE for one in told) <= 15
        assert sum(one == BETTER for one in told) <= 15


def test_worse_is_below_every_baseline_by_the_weakest_of_the_tests() -> None:
    plan = make_plan()
    (table, _) = tables_of(plan, {"c7": 0.4, "c9": 0.5, "bn-relu": 0.5, "bn-silu": 0.8})["tables"]
    seven, nine = table["comparisons"]["c7"], table["comparisons"]["c9"]
    assert (seven["verdict"], nine["verdict"]) == (WORSE, NEITHER)
    assert nine["difference"]["high"] < 0.0  # far below the better baseline all the same
    rows = finals(plan, WORTH | {"c7": 0.4, "bn-relu": 0.5, "bn-silu": 0.8})
    pixels = {
        key: np.array([[list(map(int, one.correct))] for one in
                       rows[f"{key}/polarity-digits/resnet"].values()], float).swapaxes(0, 1)
        for key in ("c7", "bn-relu", "bn-silu")
    }  # fmt: skip
    ps = [paired_test(pixels["c7"], pixels[name]).p for name in ("bn-relu", "bn-silu")]
    assert ps[0] > ps[1]
    assert seven["p"] == pytest.approx(ps[0])


def test_the_verdict_tells_what_was_not_tried() -> None:
    searched = Setting(dataset="polarity-digits", anchor=RESNET, searched=True)
    elsewhere = Setting(dataset="mnist", anchor=RESNET, searched=False)
    more = Setting(dataset="mnist", anchor=MIXER, searched=False)
    verdict = tables_of(make_plan(settings=(searched,)), WORTH)["verdict"]
    assert verdict.endswith("; no transfer was trained")
    verdict = tables_of(make_plan(settings=(searched,), rates=(0.2,)), WORTH)["verdict"]
    assert verdict.endswith("; no learning rate was chosen, for 0.2 alone was tried")
    told = tables_of(make_plan(settings=(searched, elsewhere)), WORTH)["verdict"]
    assert told.endswith("of the transfers it is better in 1 of 1")
    equal = dict.fromkeys(WORTH, 0.6)
    verdict = tables_of(make_plan(settings=(searched,)), equal)["verdict"]
    assert verdict.startswith("not better")
    assert verdict.endswith("; no transfer was trained")
    # A table that is itself a transfer, where the search's own task was not trained.
    for settings in ((elsewhere,), (elsewhere, more)):
        verdict = tables_of(make_plan(settings=settings), WORTH)["verdict"]
        assert verdict.startswith("better: candidate 7")
        assert "no transfer" not in verdict
        assert verdict.endswith("all of it is transfer, and the search's own task was not trained")


def test_other_versions_make_another_plan() -> None:
    plan, other = make_plan(versions={"torch": "1"}), make_plan(versions={"torch": "2"})
    assert plan.key != other.key
    assert plan.differs_in_versions_alone(other)
    assert plan.differs_in_versions_alone(make_plan())  # of before versions were kept
    assert not plan.differs_in_versions_alone(plan)
    assert not plan.differs_in_versions_alone(other.model_copy(update={"rates": (0.1,)}))
    made = tables_of(plan, WORTH)
    assert made["versions"] == {"torch": "1"}
    told = [one.text for one in rerank_blocks(made | {"judged": {}, "reads": 0})
            if isinstance(one, Text)]  # fmt: skip
    assert "Note: trained with torch 1." in told


def test_a_search_of_few_rates_gets_more_of_them() -> None:
    found = {name: default_rates(load_preset(name)) for name in preset_names()}
    assert found["quickstart"] == (0.1, 0.2, 0.4)
    assert found["paper-b"] == found["paper-s"] == (0.05, 0.1, 0.2)
    assert all(len(rates) >= 3 for rates in found.values())
    two = load_preset("quickstart", ["confirmation.learning_rates=[0.1,0.3]"])
    assert default_rates(two) == (0.1, 0.125, 0.25, 0.3, 0.5)


def test_by_default_a_search_transfers_to_an_anchor_and_to_data_it_did_not_use() -> None:
    found = {name: default_transfer(load_preset(name).task) for name in preset_names()}
    assert found == {
        "quickstart": ("convnext",), "cifar10-cpu": ("convnext", "polarity-digits"),
        "cifar10-gpu": ("convnext", "polarity-digits"), "paper-b": ("polarity-digits",),
        "paper-s": ("polarity-digits",), "shakespeare-cpu": (),
    }  # fmt: skip
    assert default_transfer(Task(anchors=(MIXER,))) == ("resnet",)


def test_an_anchor_is_of_the_size_of_the_searchs_own() -> None:
    small = Anchor(name="resnet", size="small", width=6)
    own = {"resnet": small}
    assert anchor_of("convnext", own) == Anchor(name="convnext", size="small")
    assert anchor_of("convnext:micro", own) == Anchor(name="convnext", size="micro")
    assert anchor_of("resnet", own) == small
    assert anchor_of("resnet:full", own) == Anchor(name="resnet", size="full")
    with pytest.raises(ConfigError, match="no size"):
        anchor_of("convnext:huge", own)


def test_a_table_tells_the_sizes_of_anchors() -> None:
    own = Setting(dataset="polarity-digits", anchor=MIXER, searched=True, sized=False)
    big = RESNET.model_copy(update={"size": "small"})
    plan = make_plan(settings=(Setting(dataset="polarity-digits", anchor=big, searched=True), own))
    blocks = rerank_blocks(tables_of(plan, WORTH) | {"judged": {}, "reads": 0})
    tables = [block for block in blocks if isinstance(block, Table)]
    for table in tables[:2]:
        assert {"resnet small", "mobilenetv2"} <= set(table.head)


def test_crops_of_other_images_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cropped = Augmentation(crop=24, flip=True)
    task = Task(dataset="cifar10", anchors=(RESNET,), augmentation=cropped)
    (one,) = settings_of(task, (), dataset="polarity-digits")  # cifar10 is not at hand here
    assert one.whole
    assert one.of(task).augmentation == Augmentation()
    assert one.of(task).dataset == "polarity-digits"
    (plain,) = settings_of(task.model_copy(update={"augmentation": Augmentation()}), (),
                           dataset="polarity-digits")  # fmt: skip
    assert not plain.whole
    told = tables_of(make_plan(settings=(one,)), WORTH)
    lines = [block.text for block in rerank_blocks(told | {"judged": {}, "reads": 0})
             if isinstance(block, Text)]  # fmt: skip
    assert any("images of polarity-digits are trained on as they are" in line for line in lines)


def test_a_task_of_a_users_own_stays_with_its_data() -> None:
    """It would train on its own data again, under the name of the other."""

    class Own:
        objectives = (Objective("mse", "min"),)

        def nothing(self, *given: object) -> None:
            raise AssertionError("nothing is trained")

        data = build = loss = evaluate = nothing

    with collecting() as register:
        own.anchor("stays-here", layout="btc", slot="norm")(Own)
    REGISTER.replace(register.entries())
    task = Task(anchors=(Anchor(name="stays-here"),))
    (alone,) = settings_of(task, ())
    assert (alone.searched, alone.sized) == (True, False)
    for in_rungs in (False, True):
        with pytest.raises(ConfigError, match="brings its data stays with it"):
            settings_of(task, ["mnist"], in_rungs=in_rungs)
    assert default_transfer(task) == ()


def test_data_of_another_kind_is_no_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load("polarity-digits")
    text = replace(data, kind="text")
    monkeypatch.setattr(datasets, "load", lambda name: text if name == "tinyshakespeare" else data)
    with pytest.raises(ConfigError, match="does not fit the data set tinyshakespeare"):
        settings_of(Task(anchors=(RESNET,)), ["tinyshakespeare"])


def test_lists_on_the_command_line() -> None:
    assert rates_of("0.1, 0.2") == (0.1, 0.2)
    assert (rates_of(None), names_of(None)) == ((), ())
    for text in ("0", "-1", "nan", "x", "0.1,0.1", "0.1,,0.2", ""):
        with pytest.raises(ConfigError):
            rates_of(text)
