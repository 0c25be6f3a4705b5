"""What users keep of an exported layer stays valid: state keys, constructor, saved weights.

The golden file is written by ``python -m tests.golden.make_layer_states`` alone, which refuses to
change what is recorded: a changed key breaks every model that somebody has saved.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from primitives.catalog import CATALOG
from primitives.module import build_layer
from tests.golden import make_layer_states
from tests.golden.make_layer_states import FILE, WITH_WEIGHTS, computed, exported, recorded

GOLDEN: dict[str, Any] = json.loads(FILE.read_text())


def test_every_layer_of_the_catalog_is_recorded() -> None:
    assert GOLDEN["layers"].keys() == CATALOG.keys()
    assert GOLDEN["weights"].keys() == set(WITH_WEIGHTS)


@pytest.mark.parametrize("name", CATALOG)
def test_keys_shapes_and_constructor_are_the_recorded_ones(name: str) -> None:
    now, then = recorded(name), GOLDEN["layers"][name]
    assert now == then
    assert list(now["state"]) == list(then["state"])


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_saved_weights_load_and_compute_what_they_did(name: str) -> None:
    saved = GOLDEN["weights"][name]
    layer = exported(name)(make_layer_states.CHANNELS, groups=2)
    state = {key: torch.tensor(value) for key, value in saved["state"].items()}
    layer.load_state_dict(state, strict=True)
    now = computed(layer, torch.tensor(saved["input"]))
    for mode in ("evaluation", "training"):
        torch.testing.assert_close(torch.tensor(now[mode]), torch.tensor(saved[mode]))
    # The check sees a lost state: a fresh layer computes something else.
    fresh = exported(name)(make_layer_states.CHANNELS, groups=2)
    other = computed(fresh, torch.tensor(saved["input"]))
    assert not torch.allclose(torch.tensor(other["evaluation"]), torch.tensor(saved["evaluation"]))


def test_a_trained_state_goes_into_the_exported_class() -> None:
    rng = torch.Generator().manual_seed(2)
    trained = build_layer(CATALOG["evonorm-b0"].graph, 8)
    for _ in range(3):
        trained(2 * torch.randn(4, 8, 3, 3, generator=rng) + 0.5)
    other = exported("evonorm-b0")(8)
    x = torch.randn(2, 8, 3, 3, generator=rng)
    assert not torch.allclose(other.eval()(x), trained.eval()(x))
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(other.eval()(x), trained.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "start"), [("bn-relu", 0.0), ("bn-relu", 1.0),
                                             ("power-norm", 1.0)])  # fmt: skip
def test_fresh_statistics_are_mean_0_and_variance_and_mean_square_1(
    name: str, start: float
) -> None:
    kind = "mean_square" if name == "power-norm" else "variance" if start else "mean"
    state = exported(name)(4).state_dict()
    (found,) = (value for key, value in state.items() if key[:-2] == f"running_{kind}")
    assert found.tolist() == [start] * 4


def test_accumulated_gradients_move_statistics_once_a_small_batch() -> None:
    x = 2 * torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(2)) + 0.5
    graph = CATALOG["bn-relu"].graph
    once, often = (
        build_layer(graph, 8, momentum=0.3),
        build_layer(graph, 8, momentum=1 - (1 - 0.3) ** (1 / 4)),
    )
    once(x)
    for _ in range(4):
        often(x)
    assert often.state_dict()["num_batches_tracked"] == 4
    for key, value in once.state_dict().items():
        if key.startswith("running"):
            torch.testing.assert_close(often.state_dict()[key], value)


def test_the_golden_file_is_not_changed_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = json.loads(FILE.read_text())
    old["layers"]["swish"]["state"]["v2"] = ["float32", 8]
    del old["layers"]["mish"]
    file = tmp_path / "states.json"
    file.write_text(json.dumps(old))
    monkeypatch.setattr(make_layer_states, "FILE", file)
    monkeypatch.setattr(sys, "argv", ["make"])
    assert make_layer_states.main() == 1
    assert "hold the old keys: swish;" in capsys.readouterr().out
    assert json.loads(file.read_text()) == old
    old["layers"]["swish"] = GOLDEN["layers"]["swish"]
    file.write_text(json.dumps(old))
    assert make_layer_states.main() == 0
    assert file.read_text() == FILE.read_text()
