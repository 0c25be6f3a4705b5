"""Leaks are found in networks of any make; an axis that cannot be looked at is said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import evosearch as es
from evosearch.config import Anchor, Task
from evosearch.own import REGISTER, collecting
from evosearch.plugins import load, read_source
from workers.anchor_check import Checked, Told, _leaks, _trained
from workers.evaluate import Context
from workers.layers import formula_for

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
N, T, C = 8, 6, 4


def looked(anchor, baselines=("token_ln-gelu", "rms-norm"), forbids=()):
    goals = REGISTER.find("anchor", anchor).value.objectives
    setting = Anchor(name=anchor, objectives=goals, slot="norm", forbids=forbids)
    task = Task(anchors=(setting,), steps=2, batch_size=N)
    it = Checked(task, anchor, baselines, 1)
    return {one.name.split()[-1]: one for one in _leaks(it, Context(device="cpu"))}


def example(tmp_path, name, old="", new=""):
    """A shipped example, or a twin of it under another name."""
    text = (EXAMPLES / f"{name}.py").read_text()
    twin = text.replace(old, new, 1).replace('"tiny-gpt"', '"tiny-twin"') if old else text
    assert bool(old) == (twin != text)
    file = tmp_path / f"{name}.py"
    file.write_text(twin)
    load(read_source(str(file)))
    return "tiny-twin" if old else "tiny-gpt"


def test_the_character_transformer_is_looked_at_and_does_not_leak(tmp_path):
    found = looked(example(tmp_path, "char_transformer"))
    assert {axis: (one.ok, one.text) for axis, one in found.items()} == {
        "batch": (True, "none found"), "positions": (True, "none found"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "axis"),
    [
        ("attn_mask=later, ", "", "positions"),
        ("return self.out(self.norms[2](y))",
         "return self.out(self.norms[2](y - y.mean(1, keepdim=True)))", "positions"),
        ("return self.out(self.norms[2](y))",
         "return self.out(self.norms[2](y - y.mean(0, keepdim=True)))", "batch"),
    ],
)  # fmt: skip
def test_its_leaking_twin_is_found_out(tmp_path, old, new, axis):
    found = looked(example(tmp_path, "char_transformer", old, new))
    assert found[axis].ok is False
    assert found[axis].text.startswith("a changed input reaches others")
    assert found[axis].where.startswith("char_transformer.py:")
    (other,) = set(found) - {axis}
    assert found[other].ok is True


def registered(name, **methods):
    """A task of these methods over float rows, and of plain ones for the rest."""
    facts = {"layout": "btc", "forbid_axes": "bt", **methods.pop("facts", {})}

    class Own:
        objectives = (es.Objective("mse", "min"),)

        def data(self, ctx):
            return torch.randn(32, T, C, generator=ctx.generator)

        def build(self, layer):
            return nn.Sequential(nn.Linear(C, C), layer(C), nn.Linear(C, C))

        def loss(self, model, batch):
            return model(batch).square().mean()

        def evaluate(self, model, batches):
            return {"mse": sum(self.loss(model, one) for one in batches)}

    for key, method in methods.items():
        setattr(Own, key, method)
    with collecting() as register:
        es.anchor(name, slot="norm", baselines=["layernorm"], **facts)(Own)
    REGISTER.replace(register.entries())
    return name


def test_a_finished_model_is_looked_at_with_a_formula_in_its_places():
    def finished(num_classes, in_channels):
        return nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, num_classes),
        )  # fmt: skip

    with collecting() as register:
        es.anchor("finished-hw", model=finished, slot="norm", forbid_axes="hw")
    REGISTER.replace(register.entries())
    assert formula_for("finished-hw") == "layer-norm"
    (found,) = looked("finished-hw", ("original",), ("positions",)).values()
    assert found.ok is True
    assert found.text.startswith("the layers mix none")


class Parts(nn.Module):
    """A network that is never called as a whole."""

    def __init__(self, layer, leaky):
        super().__init__()
        self.weigh, self.layer, self.leaky = nn.Linear(C, C), layer(C), leaky

    def encode(self, x):
        return self.layer(self.weigh(x + x.mean(1, keepdim=True) if self.leaky else x))


def functional(self, model, batch):
    """Passes by every module."""
    return nn.functional.layer_norm(batch * model[0].weight.sum(), (C,)).square().mean()


def test_what_cannot_be_looked_at_fails_and_says_what_to_add():
    found = looked(registered("by-function", loss=functional))
    for one in found.values():
        assert one.ok is False
        assert "no module that holds a layer was called" in one.text
        assert "add a method forward(self, model, batch)" in one.text
        assert "(rows, positions, ...)" in one.text
        assert "in build" in one.where
    pooled = registered("pooled", loss=lambda self, model, batch: model(batch).square().mean(),
                        build=lambda self, layer: Pooled(layer))  # fmt: skip
    found = looked(pooled)
    assert found["batch"].ok is True
    assert "output has no positions" in found["positions"].text
    assert found["positions"].ok is False


class Pooled(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.weigh, self.layer = nn.Linear(C, C), layer(C)

    def forward(self, x):
        return self.layer(self.weigh(x)).mean(1)


@pytest.mark.parametrize("leaky", [False, True])
def test_a_method_of_the_tasks_shows_outputs_by_position(leaky):
    name = registered(
        f"with-forward-{leaky}", build=lambda self, layer: Parts(layer, leaky),
        loss=lambda self, model, batch: model.encode(batch[:, :-1]).square().mean(),
        forward=lambda self, model, batch: model.encode(batch[:, :-1]),
    )  # fmt: skip
    found = looked(name)
    assert found["batch"].ok is True
    assert found["positions"].ok is not leaky


def evaluator(name, leaky, called=True):
    def train(layer, ctx):
        net = nn.Sequential(nn.Linear(C, C), layer(C), *([Mean()] if leaky else []))
        x = torch.randn(N, T, C, generator=ctx.generator)
        y = net(x) if called else nn.functional.linear(x, net[0].weight)
        return {"mse": y.square().mean()}

    with collecting() as register:
        es.evaluator(name, objectives=[es.Objective("mse", "min")], slot="norm", layout="btc",
                     forbid_axes="bt", baselines=["layernorm"])(train)  # fmt: skip
    REGISTER.replace(register.entries())
    return name


class Mean(nn.Module):
    def forward(self, x):
        return x + x.mean(1, keepdim=True)


def test_evaluators_are_looked_into_as_they_run():
    assert all(one.ok for one in looked(evaluator("clean-eval", leaky=False)).values())
    assert not torch.nn.modules.module._has_any_global_hook()  # it would warn who compiles later
    found = looked(evaluator("leaky-eval", leaky=True))
    assert (found["batch"].ok, found["positions"].ok) == (True, False)
    hidden = looked(evaluator("hidden-eval", leaky=False, called=False))
    for one in hidden.values():
        assert one.ok is False
        assert "call the network as a module" in one.text


def test_a_leak_with_the_second_baseline_alone_is_found():
    """Only what RMSNorm leaves of the mean leaks; LayerNorm takes it away."""
    name = registered("by-layer", build=lambda self, layer: Odd(layer))
    assert looked(name, ("token_ln-gelu",))["positions"].ok is True
    found = looked(name, ("token_ln-gelu", "rms-norm"))["positions"]
    assert found.ok is False
    assert "with rms-norm" in found.text


class Odd(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer(C)
        self.out = nn.Linear(C, C)

    def forward(self, x):
        y = self.layer(x)
        left = torch.where(y.abs().amax() > 0, y.sum(-1, keepdim=True), 0.0)
        return self.out(y) + torch.round(left, decimals=3).mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("unit", "direction", "what", "needed"),
    [("%", "max", "one point", 4), ("%", "min", "one point", 4),
     ("", "max", "one point", 4), ("m", "min", "one per cent of the mean", 43)],
)  # fmt: skip
def test_seeds_to_resolve_a_point_of_a_share_and_a_per_cent_of_the_rest(
    monkeypatch, unit, direction, what, needed
):
    goal = es.Objective("a", direction, unit)
    scores = iter([0.50, 0.51] if unit != "m" else [-5.0, -5.17])
    monkeypatch.setattr("workers.anchor_check._told", lambda *_: Told(next(scores)))
    task = Task(anchors=(Anchor(name="x", objectives=(goal,)),))
    *_, noise = _trained(Checked(task, "x", ("bn-relu",), 2), Context(device="cpu"))
    assert noise.name == "noise"
    assert noise.text.endswith(f"{needed} seeds a layer resolve {what}"), noise.text
