"""What `evosearch bench proxy` says of this machine."""

from __future__ import annotations

import re

import pytest

from api.cli import run
from api.commands_bench import fitting_layer
from evosearch.config import Task
from evosearch.presets import load_preset
from workers import datasets
from workers.profile import PARTS, profile


def test_every_part_of_a_step_takes_time_and_the_layers_a_share_of_it() -> None:
    task: Task = load_preset("quickstart", ["task.select_rows=40"]).task
    found = profile(task, "resnet", "bn-relu", datasets.load(task.dataset), 4)
    assert set(found.parts) == set(PARTS)
    assert all(seconds > 0 for seconds in found.parts.values())
    assert 0 < found.layers < found.parts["forward"] * 3
    assert found.candidate_seconds(100) == 100 / found.steps_per_second + found.scoring


def test_the_command_says_speed_and_candidates_an_hour(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--steps", "2", "--set", "task.select_rows=40"]
    assert run(["bench", "proxy", "quickstart", *words]) == 0
    said = capsys.readouterr().out
    assert "layer evonorm-s0" in said
    row = re.search(r"^efficientnet +([\d.]+) +([\d,]+)((?: +\d+ %){5}) +[\d.]+ s$", said, re.M)
    assert row is not None, said
    steps, images = float(row[1]), float(row[2].replace(",", ""))
    assert images == pytest.approx(64 * steps, rel=0.02)
    assert re.search(r"a full evaluation takes [\d.]+ s of a worker: [\d,]+ candidates", said)


@pytest.mark.parametrize("preset", ["quickstart", "cifar10-gpu", "paper-s", "shakespeare-cpu"])
def test_the_layer_that_is_timed_fits_every_preset(preset: str) -> None:
    layer = fitting_layer(load_preset(preset))
    assert (layer == "evonorm-s0") == (preset != "shakespeare-cpu")
