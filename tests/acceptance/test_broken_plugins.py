"""Broken plug-ins: each ends in one clear line that names the user's own, and nothing stays behind.

Every fault is one edit of a task that passes its check; the line that the message must name is the
one that carries the mark.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import IO, Any

import pytest

from api.anchor_check import Child, check_anchor, new_process, refuse_failed
from api.process_tree import descendants
from evosearch.errors import PluginError
from tests.support.forked import forked, in_session

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
    "swallowed network access": (
        "        x, y = batch", "        x, y = batch; swallowed()",
        ("uses the network", "192.0.2.1")),
    "starts a daemon": (
        "        return net", "        daemon(); return None", ("no network", "NoneType")),
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
    "swallowed network access": "def swallowed():\n    try:\n"
    "        __import__('urllib.request').request.urlopen('http://192.0.2.1/')\n"
    "    except Exception:\n        pass\n",
    "starts a daemon": "import os, subprocess\ndef daemon():\n"
    "    if os.fork() == 0:\n        os.setsid()\n"
    "        subprocess.Popen(['/bin/sleep', '300'], start_new_session=True, env={})\n"
    "        os._exit(0)\n",
}
RETURNED = {"no layer placed": 13, "loss is no number": 17, "looks ahead": 13,
            "swallowed network access": 23}  # fmt: skip
"""What a method returns is judged after it has ended: the line is that of its return."""


def broken(name: str) -> str:
    old, new, _ = FAULTS[name]
    lines = GOOD.replace(old, new, 1)
    assert lines != GOOD
    return lines + EXTRA.get(name, "")


def marked(text: str) -> int:
    """The line that differs from the good one."""
    pairs = zip(GOOD.splitlines(), text.splitlines(), strict=False)
    return next(n for n, (good, bad) in enumerate(pairs, 1) if good != bad)


def refusal(file: Path, seconds: float = 60.0, start: Any = forked) -> str:
    """The one line; whatever the plug-in started is gone."""
    begun: list[int] = []

    def noted(wanted: dict[str, Any], noise: IO[bytes]) -> Child:
        child = start(wanted, noise)
        begun.append(child.pid)
        return child

    before = set(descendants(os.getpid()))
    found = check_anchor(
        f"{file}:Toy", seeds=1, steps=3, seconds=seconds, start=noted, device="cpu"
    )
    assert set(descendants(os.getpid())) <= before
    assert [pid for pid in begun if in_session(pid)] == []
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
    assert_named(name, text, refusal(file, 3.0 if slow else 60.0))


def assert_named(name: str, text: str, line: str) -> None:
    """Fail unless it is one line with the words of the fault and the user's own line."""
    assert "\n" not in line
    for word in FAULTS[name][2]:
        assert word in line, line
    named = re.findall(r"toy\.py:(\d+)", line)
    assert named, line
    assert int(named[0]) == RETURNED.get(name, marked(text)), line


@pytest.mark.parametrize("name", ["no network", "crashes", "starts a daemon"])
def test_an_interpreter_of_its_own_ends_in_the_same_way(tmp_path: Path, name: str) -> None:
    """As the command line does it, where nothing is loaded before."""
    file = tmp_path / "toy.py"
    text = broken(name)
    file.write_text(text)
    assert_named(name, text, refusal(file, 120.0, new_process))


def test_a_message_without_the_line_is_noticed() -> None:
    with pytest.raises(AssertionError):
        assert_named("no network", broken("no network"), "toy.py:5: no network, NoneType")


@pytest.mark.parametrize(
    "session", ["", ", start_new_session=True", ", start_new_session=True, env={}"]
)
@pytest.mark.parametrize("end", ["", "; __import__('ctypes').string_at(0)"])
def test_a_process_that_a_plugin_started_is_ended(tmp_path: Path, session: str, end: str) -> None:
    """Whether it has a session of its own, and whether the plug-in lives to its end."""
    file, note = tmp_path / "toy.py", tmp_path / "pid"
    start = f"__import__('subprocess').Popen(['/bin/sleep', '300']{session})"
    change = f"        open({str(note)!r}, 'w').write(str({start}.pid)){end}; net = nn.Sequential"
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
