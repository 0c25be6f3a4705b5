"""Broken plug-ins: each ends in one clear line that names the user's own, and nothing stays behind.

Every fault is one edit of a task that passes its check; the line that the message must name is the
one that carries the mark.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from api.anchor_check import check_anchor, refuse_failed
from evosearch.errors import PluginError
from tests.support.forked import forked

GOOD = """\
import torch
from torch import nn
import evosearch as es

@es.anchor("toy", slot="norm_act", layout="btc", baselines=["token_ln-gelu"], forbid_axes="t")
class Toy:
    objectives = [es.Objective("mse", "min")]
    def data(self, ctx):
        x = torch.randn(64, 6, 4, generator=ctx.generator)
        return x, x.cumsum(1)
    def build(self, layer):
        net = nn.Sequential(nn.Linear(4, 8), layer(8), nn.Linear(8, 4))
        return net
    def loss(self, model, batch):
        x, y = batch
        loss = (model(x) - y).square().mean()
        return loss
    def evaluate(self, model, batches):
        found = torch.cat([(model(x) - y).square() for x, y in batches]).mean()
        return {"mse": found}
"""
HERE = "  # here"

FAULTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "syntax error": ("        return net", "        return net net", ("SyntaxError",)),
    "missing module": ("from torch import nn", "import nowhere_at_all", ("nowhere_at_all",)),
    "no such class attribute": (
        "        net = nn.Sequential", "        net = nn.Sequentiel", ("Sequentiel",)),
    "wrong shape": ("(model(x) - y).square().mean()", "(model(x[:, :, :2]) - y).square().mean()",
                    ("RuntimeError", "mat1")),
    "nan loss": ("        return loss", "        return loss * float('nan')", ("not finite",)),
    "no layer placed": ("nn.Linear(4, 8), layer(8), nn.Linear(8, 4)",
                        "nn.Linear(4, 8), nn.Linear(8, 4)", ("placed nowhere",)),
    "layer built and not used": ("        net = nn.Sequential(nn.Linear(4, 8), layer(8), ",
                                 "        layer(8); net = nn.Sequential(nn.Linear(4, 8), ",
                                 ("0 of 1 layers",)),
    "no network": ("        return net", "        return None", ("no network", "NoneType")),
    "loss is no number": ("(model(x) - y).square().mean()", "(model(x) - y).square()",
                          ("no number",)),
    "loss without a gradient": ("        return loss", "        return loss.detach()",
                                ("no gradient",)),
    "wrong objective": ('{"mse": found}', '{"rmse": found}', ("does not return", "mse")),
    "metric is nan": ('{"mse": found}', '{"mse": found * float("nan")}', ("not finite",)),
    "metric is no dict": ('{"mse": found}', "found", ("no dict", "Tensor")),
    "unseeded randomness": ("torch.randn(64, 6, 4, generator=ctx.generator)",
                            "torch.randn(64, 6, 4, generator=torch.Generator().manual_seed("
                            "__import__('time').time_ns()))",
                            ("repeats", "the same seed gives")),
    "gpu only": ("        return net", "        return net.cuda()", ("CUDA",)),
    "slow import": ("from torch import nn", "__import__('time').sleep(99)", ("longer than",)),
    "endless loop": ("        return loss", "        while True: pass", ("longer than",)),
    "network access": ("        x, y = batch",
                       "        __import__('urllib.request').request.urlopen('http://192.0.2.1/')",
                       ("uses the network",)),
    "global dtype": ("import evosearch as es",
                     "import evosearch as es; torch.set_default_dtype(torch.float64)",
                     ("default dtype",)),
    "changed environment": ("        x, y = batch",
                            "        x, y = batch; __import__('os').environ['HELLO'] = '1'",
                            ("globals", "environment")),
    "ends the process": ("        return net", "        raise SystemExit(3)",
                         ("ends the process",)),
    "crashes": ("        x, y = batch", "        __import__('ctypes').string_at(0)",
                ("died", "signal 11")),
    "looks ahead": ("        net = nn.Sequential(",
                    "        net = nn.Sequential(Mean(), ", ("leaks over positions",)),
    "reads once": ("        return x, x.cumsum(1)", "        return iter([(x, x)])",
                   ("only once",)),
    "no rows": ("        return x, x.cumsum(1)", "        return x[:0], x[:0]", ("no rows",)),
    "unknown axis": ('forbid_axes="t")', 'forbid_axes="h")', ("forbid_axes",)),
    "missing method": ("    def evaluate", "    def evaluation", ("no task", "no evaluate")),
    "growing state": ("        return {", "        SEEN.append(1); found = found + len(SEEN); "
                      "return {", ("repeats",)),
}  # fmt: skip
EXTRA = {
    "looks ahead": "class Mean(nn.Module):\n    def forward(self, x):\n"
    "        return x + x.mean(1, keepdim=True)\n",
    "growing state": "SEEN = []\n",
}
NOT_LOCATED = {
    "no layer placed": 5, "no network": 5, "loss is no number": 5, "loss without a gradient": 5,
    "wrong objective": 5, "metric is nan": 5, "metric is no dict": 5, "nan loss": 5,
    "reads once": 5, "no rows": 5, "missing method": 5, "unknown axis": 5,
}  # fmt: skip
"""What a method returns is judged after it has ended: the line is that of the registration."""
LOOSE = ("growing state", "looks ahead")
"""The line is in the user's file; which one cannot be known for sure."""


def broken(name: str) -> str:
    old, new, _ = FAULTS[name]
    lines = GOOD.replace(old, new, 1)
    assert lines != GOOD
    return lines + EXTRA.get(name, "")


def marked(text: str) -> int:
    """The line that differs from the good one."""
    pairs = zip(GOOD.splitlines(), text.splitlines(), strict=False)
    return next(n for n, (good, bad) in enumerate(pairs, 1) if good != bad)


def refusal(file: Path, seconds: float = 60.0) -> str:
    found = check_anchor(f"{file}:Toy", seeds=1, steps=3, seconds=seconds, start=forked)
    with pytest.raises(PluginError) as caught:
        refuse_failed(found, str(file))
    return str(caught.value)


def test_the_good_one_passes(tmp_path: Path) -> None:
    file = tmp_path / "toy.py"
    file.write_text(GOOD)
    found = check_anchor(f"{file}:Toy", seeds=2, steps=3)
    assert found.error == ""
    assert found.failed == []
    told = {one["name"] for one in found.findings}
    assert told >= {"placed", "cost", "repeats", "leaks over positions", "noise"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_one_names_the_users_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "toy.py"
    text = broken(name)
    file.write_text(text)
    slow = name in ("slow import", "endless loop")
    line = refusal(file, 3.0 if slow else 60.0)
    assert "\n" not in line
    for word in FAULTS[name][2]:
        assert word in line, line
    if name in LOOSE:
        assert "toy.py:" in line, line
    else:
        assert f"toy.py:{NOT_LOCATED.get(name, marked(text))}" in line, line


def test_a_process_that_a_plugin_started_is_ended(tmp_path: Path) -> None:
    file, note = tmp_path / "toy.py", tmp_path / "pid"
    start = "__import__('subprocess').Popen(['sleep', '300'])"
    change = f"        open({str(note)!r}, 'w').write(str({start}.pid)); net = nn.Sequential"
    file.write_text(GOOD.replace("        net = nn.Sequential", change, 1))
    check_anchor(f"{file}:Toy", seeds=1, steps=2, start=forked)
    pid = int(note.read_text())
    deadline = time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < deadline, "the plug-in's process is still there"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
