"""Calibration figures against known truth, and the report's lines."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from api.commands_preset import LAYERS, good_layers, jobs, lines, write_figures
from api.compare import BESIDE, Comparison
from evosearch import presets
from evosearch.calibrate import advice, calibrate, spearman, unsteady
from evosearch.presets import load_preset
from primitives.formula import parse
from tests.benchmarks.study_cifar import (
    alone,
    load_rows,
    references,
    settings_key,
    with_references,
)
from workers.layers import layer_factory

RNG = np.random.default_rng(2)


def test_spreads_are_found_again():
    truth = RNG.normal(0.7, 0.03, (400, 1))
    found = calibrate(truth + RNG.normal(0.0, 0.02, (400, 6)))
    assert found.between == pytest.approx(0.03, rel=0.1)
    assert found.noise == pytest.approx(0.02, rel=0.1)
    assert found.ratio == pytest.approx(1.5, rel=0.15)
    assert found.seeds == pytest.approx(2 * (1.96 * 0.02 / 0.01) ** 2, rel=0.2)
    assert math.isnan(found.correlation)


def test_equal_layers_have_no_spread_of_their_own():
    found = calibrate(RNG.normal(0.7, 0.02, (300, 5)))
    assert found.between < 0.005
    assert advice(found)[0].startswith("one seed does not rank")


def test_a_layer_that_fails_with_some_seeds_is_named() -> None:
    steady = RNG.normal(0.7, 0.02, (9, 5))
    assert unsteady(steady) == []
    fails = np.vstack([steady, [[0.7, 0.1, 0.71, 0.69, 0.12]]])
    assert unsteady(fails) == [9]
    short = {f"l{row}": {"resnet": [*values]} for row, values in enumerate(fails)}
    said = "\n".join(lines(["resnet"], [*short], short, None))
    assert "l9 fail with some seeds" in said
    del short["l9"]
    assert "fail with" not in "\n".join(lines(["resnet"], [*short], short, None))


def test_spearman_equals_an_independent_one_with_ties():
    for _ in range(20):
        a, b = RNG.integers(0, 6, (2, 15)).astype(float)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_advice_follows_the_figures():
    scores = np.array([[0.5, 0.51], [0.6, 0.61], [0.7, 0.71]])
    same = calibrate(scores, scores)
    assert same.correlation == pytest.approx(1.0)
    assert advice(same)[0] == "one seed tells these layers apart"
    assert "much alike" in advice(same)[-1]
    assert "mislead" in advice(calibrate(scores, scores[::-1]))[-1]
    with pytest.raises(ValueError, match="two layers"):
        calibrate(scores[:1])


def test_a_longer_task_that_tells_nothing_apart_is_not_taken_at_its_word() -> None:
    scores = np.array([[0.5, 0.51], [0.6, 0.61], [0.7, 0.71]])
    vague = np.array([[0.8, 0.9], [0.9, 0.79], [0.75, 0.9]])
    found = calibrate(scores, vague)
    assert found.correlation < 0.5
    assert found.longer_ratio == calibrate(vague).ratio < 1
    assert "says little" in advice(found)[-1]
    assert "mislead" in advice(calibrate(scores, scores[::-1, :1]))[-1]  # one seed: not known
    short = {f"l{row}": {"resnet": [*values]} for row, values in enumerate(scores)}
    long = {f"l{row}": {"resnet": [*values]} for row, values in enumerate(vague)}
    assert (
        f"where the ratio is {found.longer_ratio:.2f}"
        in lines(["resnet"], [*short], short, long)[5]
    )


def test_the_report_has_a_row_a_layer_and_figures_an_anchor():
    short = {n: {"resnet": [0.5 + i / 10, 0.52 + i / 10]} for i, n in enumerate("ab")}
    said = lines(["resnet"], ["a", "b"], short, short)
    assert said[1].split() == ["a", "0.510", "+-0.014"]
    assert [line.split()[0] for line in said[4:6]] == ["resnet", "mean"]
    assert "rank correlation with the longer task 1.00" in said[5]


def test_without_a_longer_task_the_report_says_nothing_of_it():
    short = {n: {"resnet": [0.5 + i / 10, 0.52 + i / 10]} for i, n in enumerate("ab")}
    said = "\n".join(lines(["resnet"], ["a", "b"], short, None))
    assert "one point takes" in said
    assert "longer" not in said


def test_the_figures_are_written_as_json(tmp_path):
    config = load_preset("quickstart")
    names = ["a", "b", "c"]
    short = {
        n: {anchor: [0.5 + i / 10, 0.52 + i / 10] for anchor in config.anchor_names}
        for i, n in enumerate(names)
    }
    write_figures(tmp_path / "out.json", config, names, short, short)
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["scores"] == short
    assert set(found["calibration"]) == {*config.anchor_names, "mean"}
    assert found["calibration"]["mean"]["rank_correlation"] == pytest.approx(1.0)
    assert found["advice"][0] == "one seed tells these layers apart"
    same = {n: {anchor: [0.5, 0.5] for anchor in config.anchor_names} for n in names}
    write_figures(tmp_path / "out.json", config, names, same, same)
    assert json.loads((tmp_path / "out.json").read_text())["calibration"]["mean"]["ratio"] is None


def test_the_layers_to_calibrate_with_are_such_that_every_anchor_takes():
    assert good_layers(load_preset("quickstart")) == list(LAYERS)
    config = load_preset("shakespeare-cpu")
    found = good_layers(config)
    assert len(found) >= 2
    assert set(config.baselines) <= set(found)
    for name in found:
        job = jobs(config, config.task, [name], range(1))[0]
        layer_factory(job, "char-transformer")  # refuses what the anchor forbids


def test_a_layer_of_a_network_that_forbids_mixing_stands_beside_its_own_baselines():
    config = load_preset("shakespeare-cpu")
    beside = Comparison(parse("x / rms_token(x)"), config, 1).beside
    assert beside == list(config.baselines)
    assert Comparison(parse("tanh(x)"), load_preset("quickstart"), 1).beside == list(BESIDE)


def test_a_study_sets_the_reference_points_of_its_preset():
    rows = [
        {"layer": name, "seed": seed, "rejected_by": None, "scores": {"resnet": score}}
        for name, score in (("bn-relu", 0.5), ("bn-silu", 0.9))
        for seed in (0, 1)
    ]
    rows[1]["scores"] = {"resnet": 0.6}
    assert references(rows) == {"resnet": pytest.approx(0.45)}
    text = (Path(presets.__file__).parent / "cifar10-cpu.toml").read_text()
    changed = tomllib.loads(with_references(text, {"efficientnet": 0.415}))
    before = tomllib.loads(text)
    assert changed["task"]["anchors"][2].pop("reference") == pytest.approx(0.41, abs=0.011)
    del before["task"]["anchors"][2]["reference"]
    assert changed == before
    with pytest.raises(SystemExit, match="no reference of anchor vit"):
        with_references(text, {"vit": 0.4})


def test_rows_of_two_settings_are_never_mixed(tmp_path):
    config = load_preset("cifar10-cpu")
    longer = load_preset("cifar10-cpu", ["task.steps=800"])
    same = load_preset("cifar10-cpu", ["task.anchors.0.reference=0.3"])
    (tmp_path / "a.0.json").write_text(json.dumps({"settings": settings_key(config)}))
    assert len(load_rows(config, tmp_path)) == len(load_rows(same, tmp_path)) == 1
    with pytest.raises(SystemExit, match="expected"):
        load_rows(longer, tmp_path)


def test_two_processes_never_do_one_number(tmp_path):
    with alone(tmp_path / "a.lock") as first, alone(tmp_path / "a.lock") as second:
        assert (first, second) == (True, False)
    with alone(tmp_path / "a.lock") as third:
        assert third
