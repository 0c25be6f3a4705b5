"""The study of known layers on CIFAR-10: what it decides and writes, from rows that are made up."""

from __future__ import annotations

import json

import pytest

from docs import make_measured
from evosearch.presets import load_preset
from tests.benchmarks import record, study_cifar

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")


def rows(score, seconds, settings="s"):
    found = []
    for number, name in enumerate(study_cifar.BASELINES):
        found += [
            {"settings": settings, "layer": name, "seed": seed, "seconds": seconds,
             "clock": study_cifar.CLOCK,
             "scores": dict.fromkeys(ANCHORS, score + 0.01 * number + 0.001 * seed),
             "checks": [], "rejected_by": None}
            for seed in range(3)
        ]  # fmt: skip
    found.append({"settings": settings, "layer": "relu", "seed": 0, "seconds": 2.0, "scores": {},
                  "clock": study_cifar.CLOCK,
                  "checks": [], "rejected_by": "quality: accuracy 10 %"})  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("score", "seconds", "expected"),
    [(0.52, 900.0, (True, False)), (0.45, 200.0, (False, True)), (0.45, 400.0, (False, False))],
)
def test_it_decides_by_the_worst_anchor_and_the_time(score, seconds, expected):
    found = study_cifar.decide(rows(score, seconds))
    assert (found["reached"], found["soon"]) == expected
    assert f"resnet {100 * (score + 0.001):.1f} %" in found["said"]
    assert f"{seconds:.0f}" in found["said"] or expected[0]


def test_one_anchor_below_half_is_not_enough():
    mixed = rows(0.6, 100.0)
    for row in mixed:
        if "efficientnet" in row["scores"]:
            row["scores"]["efficientnet"] = 0.4
    assert not study_cifar.decide(mixed)["reached"]


def test_the_report_writes_its_result_and_the_page_of_the_docs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        study_cifar, "write_result", lambda name, data: record.write_result(name, data, tmp_path)
    )
    config = load_preset("cifar10-cpu")
    folder = tmp_path / "rows"
    folder.mkdir()
    for row in rows(0.52, 100.0, study_cifar.settings_key(config)):
        (folder / f"{row['layer']}.{row['seed']}.json").write_text(json.dumps(row))
    study_cifar.report(config, [], folder, None)
    result = json.loads((tmp_path / "cifar10_cpu.json").read_text())
    assert result["decision"]["reached"]
    text = make_measured.page(tmp_path)
    assert "| `bn-relu` | 0.521 ± 0.001 (n=3) | 0.521 ± 0.001 (n=3) |" in text
    assert "| `relu` | - | - | - | quality (1 of 1) | 2.0 |" in text
    assert "reaches 50 % on every anchor" in text
    assert "reject no good layer with any seed, and every bad one with every seed" in text
    assert "`python -m tests.benchmarks.bench_training` does it" in text
    said = capsys.readouterr().out
    assert "one seed tells these layers apart" in said
    assert "reaches 50 %" in said


def test_a_rejected_good_layer_and_a_bad_one_that_passes_are_told():
    some = rows(0.52, 100.0)
    some[3]["rejected_by"], some[-1]["rejected_by"] = "quality: 12 %", None
    found = study_cifar.judged(some)
    assert found["good_rejected"] == ["bn-silu, seed 0 (quality: 12 %)"]
    assert found["bad_passed"] == ["relu, seed 0"]
    assert "The checks reject good layers: bn-silu, seed 0" in found["said"]


def test_without_the_baseline_nothing_is_decided():
    some = rows(0.52, 100.0)
    some[0]["rejected_by"] = "signal: logit_std 1e9"
    with pytest.raises(SystemExit, match="bn-relu"):
        study_cifar.decide(some)
