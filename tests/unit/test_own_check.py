"""What `anchor check` says of finished models and evaluators: where layers go, a step's cost."""

from __future__ import annotations

from pathlib import Path

from api.anchor_check import check_anchor
from tests.support.forked import forked

MY_TASK = Path(__file__).parents[1] / "support" / "my_task.py"
MODELS = """
from torch import nn
import evosearch as es

def around(parts):
    def made(num_classes, in_channels):
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
        return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), *parts(), *pooled)
    return made

es.anchor("mixed", model=around(lambda: [
    nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1),
    nn.SiLU()]))
es.anchor("placeless", model=around(lambda: [nn.ReLU()]))
"""


def checked(reference):
    return check_anchor(reference, seeds=1, steps=3, device="cpu", start=forked)


def texts(found, name):
    return [one["text"] for one in found.findings if one["name"] == name]


def test_it_says_what_becomes_of_each_part_of_a_finished_model(tmp_path):
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    found = checked(f"{file}:mixed")
    assert (found.error, found.failed) == ("", [])
    assert texts(found, "placed") == [
        "1: BatchNorm2d replaced, with the activation after it",
        "2: ReLU replaced, part of the layer before it",
        "4: BatchNorm2d affine, no activation follows",
        "6: SiLU left, not after a normalisation: _5",
    ]
    assert texts(found, "placement") == ["with bn-relu: 2 replaced, 1 affine, 1 left"]


def test_a_finished_model_without_a_place_is_one_line(tmp_path):
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    found = checked(f"{file}:placeless")
    line = next(n for n, one in enumerate(MODELS.splitlines(), 1) if "return nn.Seq" in one)
    assert found.error.startswith(f"models.py:{line} in made: no layer of slot norm_act fits into")
    assert "\n" not in found.error


def test_it_says_which_layers_an_evaluator_builds_and_what_a_step_takes():
    found = checked(f"{MY_TASK}:my_eval")
    assert (found.error, found.failed) == ("", [])
    assert texts(found, "placement") == ["layers built, by channels: 4"]
    (cost,) = texts(found, "cost")
    assert "ms a step" in cost
    assert "for 3 steps; peak memory" in cost
