"""Every kind of plug-in, by file and by an installed package's entry point, named in the same way.

What is installed is a folder with a `.dist-info`, found by Python as any distribution is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.command import COMMAND, environment
from tests.unit import test_front_cli

PARTS = {
    "net": '''
import torch
from torch import nn
import evosearch as es

def build(layer, num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), layer(4), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, num_classes))

es.anchor("their-net", build=build)
''',
    "data": '''
import numpy as np
import evosearch as es

@es.dataset("their-stripes")
def stripes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 600)
    x = 0.5 * rng.standard_normal((600, 8, 8)).astype(np.float32)
    x[np.arange(600), 2 * y, :] += 1.0
    return {"train": (x[:300], y[:300]), "select": (x[300:450], y[300:450]),
            "final": (x[450:], y[450:]), "num_classes": 4}
''',
    "goal": '''
import evosearch as es

@es.objective("widest", "min", "channels")
def their_widest(model):
    return max(one.numel() for one in model.parameters())
''',
    "rule": '''
import evosearch as es

@es.check("no-exp")
def their_rule(graph):
    return "exp is live" if any(graph.node(i).op == "exp" for i in graph.live_ops()) else None
''',
    "row": '''
import numpy as np
import evosearch as es

es.primitive(es.Primitive(
    "atan", 1, "torch.atan(a)", "sympy.atan(a)", "atan({a})",
    forward=lambda a, eps: np.arctan(a), vjp=lambda g, y, a, eps: (g / (1.0 + a * a),),
    properties=frozenset({"odd", "bounded"}), cost=10,
))
''',
    "sink": '''
from pathlib import Path
import evosearch as es

@es.alert_sink("their-sink")
def heard(alert):
    with Path("alerts.txt").open("a") as file:
        file.write(alert["alert"] + "\\n")
''',
}  # fmt: skip
NAMED = {"net": ":their-net", "data": ":their-stripes", "goal": ":their_widest", "rule": ":no-exp",
         "row": ":atan", "sink": ""}  # fmt: skip
"""What follows the file's name; a Python name means what was registered of it, too."""
TOML = """
preset = "theirs"
series = "S"
baselines = ["bn-relu"]
[space]
checks = ["{rule}"]
primitives = ["{row}"]
start_from = ["atan(x)"]
[task]
dataset = "{data}"
anchors = ["{net}"]
objectives = ["{goal}", "parameters"]
plugins = ["{sink}"]
steps = 4
batch_size = 16
[checks.quality]
steps = 2
accuracy = -9.0
[checks.stability]
enabled = false
[confirmation]
enabled = false
rivals = ["bn-relu"]
[budget]
evaluations = 2
"""
COMPARED = """
import json, sys, tomllib
import evosearch as es
from api.own_config import complete, file_config, own_config
names, start = json.loads(sys.argv[1]), json.loads(sys.argv[2])

def told(config):
    anchors = [one.model_dump(include={"name", "objectives"}, mode="json")
               for one in config.task.anchors]
    return {"anchors": anchors, "dataset": config.task.dataset, "checks": config.space.checks,
            "primitives": config.space.primitives,
            "plugins": sorted(one.sha256 for one in config.task.plugins)}

by_file = file_config("theirs.toml")
settings = {"task.dataset": names["data"], "space.primitives": [names["row"]], "task.steps": 4,
            "task.batch_size": 16, "checks.quality.accuracy": -9.0, "space.start_from": ["atan(x)"],
            "checks.stability.enabled": False, "confirmation.enabled": False,
            "budget.evaluations": 2}
more = {"checks": [names["rule"]], "objectives": [names["goal"], "parameters"],
        "plugins": [names["sink"]], "baselines": ["bn-relu"]}
in_python = own_config([names["net"]], preset=None, settings=settings, plugin_path=None, **more)
flags = ['task.anchors=["%s"]' % names["net"], "task.dataset=%s" % names["data"],
         'task.objectives=["%s", "parameters"]' % names["goal"],
         'space.checks=["%s"]' % names["rule"], 'space.primitives=["%s"]' % names["row"]]
on_command_line = file_config("quickstart", flags, None, [names["sink"]])
# Once loaded, names alone are enough.
plain = {key: name.rpartition(":")[2].replace("their_widest", "widest")
         for key, name in names.items() if key != "sink"}
by_name = own_config([plain["net"]], preset=None, settings=settings | {
    "task.dataset": plain["data"], "space.primitives": [plain["row"]]}, plugin_path=None,
    **(more | {"checks": [plain["rule"]], "objectives": [plain["goal"], "parameters"]}))
configs = [by_file, in_python, on_command_line, by_name]
run = None
if start == "python":
    run = es.search([names["net"]], settings=settings, pool="inline", db="sqlite:///runs.db",
                    show=False, **more)
else:
    from api.cli import run as command
    assert command(["search", "start", "theirs.toml", "--pool", "inline"]) == 0
print(json.dumps({
    "told": [told(complete(one)) for one in configs],
    "run": None if run is None else [run.status, run.state.members[0].means()],
}))
"""


def seen(folder: Path, names: dict[str, str], start: str, **more: str) -> dict[str, object]:
    """What a process of that folder makes of the names."""
    (folder / "theirs.toml").write_text(TOML.format(**names))
    (folder / "compared.py").write_text(COMPARED)
    done = subprocess.run(
        [sys.executable, "compared.py", json.dumps(names), json.dumps(start)], cwd=folder,
        env=environment() | more, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_all_kinds(folder: Path, found: dict[str, object], plugins: int) -> None:
    """Fail unless every way to name them has come to the same, and the sink heard of the end."""
    first, *others = found["told"]  # type: ignore[misc]
    assert first["dataset"] == "their-stripes"
    assert (first["checks"], first["primitives"]) == (["no-exp"], ["atan"])
    (anchor,) = first["anchors"]
    assert anchor["name"] == "their-net"
    goals = [(goal["name"], goal["direction"]) for goal in anchor["objectives"]]
    assert goals == [("accuracy", "max"), ("widest", "min"), ("parameters", "min")]
    assert len(first["plugins"]) == plugins
    assert others == [first] * 3
    assert "finished" in (folder / "alerts.txt").read_text()


def test_by_file(tmp_path: Path) -> None:
    for name, text in PARTS.items():
        (tmp_path / f"{name}_part.py").write_text(text)
    names = {name: f"{name}_part.py{inner}" for name, inner in NAMED.items()}
    found = seen(tmp_path, names, "python")
    assert_all_kinds(tmp_path, found, plugins=6)
    status, means = found["run"]  # type: ignore[misc]
    assert status == "finished"
    assert set(means) == {"their-net", "their-net#widest", "their-net#parameters"}
    assert means["their-net#widest"] == -36  # the convolution's weights: 4 x 1 x 3 x 3


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A distribution with a package whose modules are entry points."""
    site = tmp_path / "site"
    package, info = site / "theirs", site / "theirs_layers-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    for name, text in PARTS.items():
        (package / f"{name}.py").write_text(text)
    points = "".join(f"their-{name} = theirs.{name}\n" for name in PARTS)
    (info / "entry_points.txt").write_text(f"[evosearch.plugins]\n{points}")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs-layers\nVersion: 1.0\n")
    return site


def test_by_entry_point(tmp_path: Path, installed: Path) -> None:
    names = {name: f"their-{name}{inner}" for name, inner in NAMED.items()}
    path = f"{environment()['PYTHONPATH']}:{installed}"
    folder = tmp_path / "away"
    folder.mkdir()
    found = seen(folder, names, "command line", PYTHONPATH=path)
    assert_all_kinds(folder, found, plugins=6)


def test_an_unknown_name_says_what_there_is(tmp_path: Path, installed: Path) -> None:
    code = (
        "from api.cli import run\n"
        "for name in ('their-nets:x', 'their-net:other', 'their-rule'):\n"
        "    run(['search', 'start', 'quickstart', '--dry-run', '--set',\n"
        "         f'task.anchors=[\"{name}\"]'])\n"
    )
    path = f"{environment()['PYTHONPATH']}:{installed}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment() | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    first, second, third = done.stderr.splitlines()
    assert "unknown plug-in; expected a file that ends in .py, or" in first
    assert "their-net" in first
    assert "no anchor other" in second
    assert "expected one of build" in second
    assert "unknown anchor" in third


def test_a_service_starts_with_a_file_of_settings_that_names_own_code(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(test_front_cli.MY_TASK.read_text())
    (tmp_path / "mine.toml").write_text(test_front_cli.TOML)
    done = subprocess.run(
        [*COMMAND, "serve", "--start", "mine.toml", "--port", "0", "--pool", "inline"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: not confirmed" in done.stdout
    assert len(list(tmp_path.glob("leader-*.py"))) == 1
