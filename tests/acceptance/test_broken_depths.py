"""Broken networks (depth one) and evaluators (depth three): one line each, with the user's own."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.acceptance.test_broken_plugins import refusal
from workers.anchor_check import GLOBAL_CALLS, global_state

NETWORK = """\
import torch
from torch import nn
import evosearch as es

class Toy(nn.Module):
    def __init__(self, layer, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), layer(4))
        self.head = nn.Linear(4, num_classes)
    def forward(self, x):
        found = self.head(self.stem(x).mean((2, 3)))
        return found

def build(layer, num_classes, in_channels):
    net = Toy(layer, num_classes, in_channels)
    return net

es.anchor("Toy", build=build)
"""
EVALUATOR = """\
import torch
from torch import nn
import evosearch as es

@es.evaluator(name="Toy", objectives=[es.Objective("mse", "min")], baselines=["bn-relu"])
def toy(layer, ctx):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), layer(4))
    x = torch.randn(8, 1, 6, 6, generator=ctx.generator)
    for step in range(ctx.steps):
        value = (net(x) - 1).square().mean().detach()
        ctx.report(step, mse=value)
    return {"mse": value}
"""
FAULTS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "network: syntax error": (NETWORK, "    return net", "    return net net", ("SyntaxError",)),
    "network: wrong shape": (NETWORK, "nn.Linear(4, num", "nn.Linear(5, num",
                             ("RuntimeError", "mat1")),
    "network: wrong output": (NETWORK, "        return found", "        return found[:, :, None]",
                              ("RuntimeError", "anchor Toy fails")),
    "network: nan": (NETWORK, "        return found", "        return found * float('nan')",
                     ("not finite",)),
    "network: unseeded": (
        NETWORK, "        return found",
        "        return found * __import__('random').SystemRandom().random()",
        ("repeats", "the same seed gives")),
    "network: globals": (
        NETWORK, "    return net", "    torch.set_float32_matmul_precision('medium'); return net",
        ("globals", "precision of products")),
    "evaluator: syntax error": (EVALUATOR, '    return {"mse"', '    return return {"mse"',
                                ("SyntaxError",)),
    "evaluator: wrong shape": (EVALUATOR, "torch.randn(8, 1,", "torch.randn(8, 2,",
                               ("RuntimeError", "channels")),
    "evaluator: nan": (EVALUATOR, "        value = (net(x) - 1)",
                       "        value = float('nan') * (net(x) - 1)", ("not finite",)),
    "evaluator: unseeded": (
        EVALUATOR, "generator=ctx.generator",
        "generator=torch.Generator().manual_seed(__import__('time').time_ns())",
        ("repeats", "the same seed gives")),
    "evaluator: globals": (
        EVALUATOR, "    for step", "    import sys; sys.path.append('/mine')\n    for step",
        ("globals", "path of imports")),
}  # fmt: skip
LINES = {
    "network: wrong shape": 11, "network: wrong output": 16, "network: nan": 16,
    "evaluator: wrong shape": 10, "evaluator: nan": 12,
}  # fmt: skip
"""Where another line is named than the faulty one: that of its use, or of the network's return."""


@pytest.mark.parametrize("name", FAULTS)
def test_each_names_the_users_line(tmp_path: Path, name: str) -> None:
    good, old, new, words = FAULTS[name]
    text = good.replace(old, new, 1)
    assert text != good
    file = tmp_path / "toy.py"
    file.write_text(text)
    line = refusal(file)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    changed = next(number for number, (left, right) in enumerate(
        zip(good.splitlines(), text.splitlines(), strict=False), 1) if left != right)  # fmt: skip
    named = re.findall(r"toy\.py:(\d+)", line)
    assert named, line
    assert int(named[0]) == LINES.get(name, changed), line


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch.set_default_dtype(torch.float64)": (
        torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device('meta')": (
        lambda: "cpu", torch.set_default_device),
    "torch.set_num_threads(torch.get_num_threads() + 1)": (
        torch.get_num_threads, torch.set_num_threads),
    "os.environ['HELLO_PLUGIN'] = '1'": (
        lambda: None, lambda _: os.environ.pop("HELLO_PLUGIN")),
    "os.chdir('/')": (os.getcwd, os.chdir),
    "sys.path.append('/mine')": (lambda: None, lambda _: sys.path.remove("/mine")),
    "torch.use_deterministic_algorithms(True)": (
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "torch.set_grad_enabled(False)": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.autograd.set_detect_anomaly(True)": (
        torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)": (
        lambda: signal.getsignal(signal.SIGUSR1),
        lambda before: signal.signal(signal.SIGUSR1, before)),
    "torch.set_float32_matmul_precision('medium')": (
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("code", CHANGES)
def test_each_change_of_the_process_is_seen_and_its_line_is_known(code: str) -> None:
    read, restore = CHANGES[code]
    before, state = read(), global_state()
    try:
        exec(code, {"torch": torch, "os": os, "sys": sys, "signal": signal})
        changed = [name for name, value in global_state().items() if value != state[name]]
    finally:
        restore(before)
    assert len(changed) == 1
    assert GLOBAL_CALLS.search(code)
    assert global_state() == state


def test_every_call_that_is_looked_for_is_tried() -> None:
    calls = GLOBAL_CALLS.pattern.split("|")
    assert [one for one in calls if not any(re.search(one, code) for code in CHANGES)] == []
