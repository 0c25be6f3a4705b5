"""Skeletons of plug-ins: files that work as they are written, each with a test that can fail."""

from __future__ import annotations

from typing import Literal

from evosearch.errors import ConfigError

Kind = Literal["anchor", "dataset", "primitive"]

ANCHOR = '''"""An anchor of your own: your data, network, loss and metric; evosearch runs the loop.

Check it:   evosearch anchor check {file}:{cls}
Search:     python {file}
"""

import torch
from torch import nn
from torch.nn import functional as F

import evosearch as es


@es.anchor("{name}", slot="norm_act", layout="bc", baselines=["ln-relu", "bn-relu"])
class {cls}:
    objectives = [es.Objective("accuracy", "max", "%", worst=25.0)]

    def data(self, ctx):
        # Called once for train, select and final; what is random comes from ctx.
        rows = 2048 if ctx.split == "train" else 1024
        y = torch.randint(4, (rows,), generator=ctx.generator)
        angle = y * 1.6 + 0.3 * torch.randn(rows, generator=ctx.generator)
        radius = 1 + 0.2 * torch.randn(rows, generator=ctx.generator)
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return x, y  # tensors of rows, a torch data set, or batches

    def build(self, layer):
        # layer(num_features) is the module that the search varies.
        return nn.Sequential(
            nn.Linear(2, 32), layer(32), nn.Linear(32, 32), layer(32), nn.Linear(32, 4)
        )

    def loss(self, model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y)

    def evaluate(self, model, batches):
        right = torch.cat([model(x).argmax(1) == y for x, y in batches])
        return {{"accuracy": 100 * right.float().mean().item()}}


if __name__ == "__main__":
    run = es.search([{cls}], budget=es.Budget(evaluations=50), pool="inline")
    print(run.table())
    print(run.leader.explain())
'''

ANCHOR_TEST = '''"""The anchor passes its check."""

from pathlib import Path

from api.anchor_check import check_anchor


def test_the_anchor_passes():
    file = Path(__file__).with_name("{file}")
    found = check_anchor(f"{{file}}:{cls}", seeds=1, steps=10)
    assert found.error == ""
    assert found.failed == []
'''

DATASET = '''"""A data set of your own: images and classes; the built-in anchors train on it.

Use:  evosearch search start quickstart --plugin {file} --set task.dataset={name}
"""

import numpy as np

import evosearch as es


@es.dataset("{name}")
def load():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 1200)
    # (n, h, w), (n, h, w, c) or (n, c, h, w); bytes or floats.
    x = 0.5 * rng.standard_normal((1200, 8, 8)).astype(np.float32)
    x[np.arange(1200), 2 * y, :] += 1.0
    return {{"train": (x[:800], y[:800]), "select": (x[800:1000], y[800:1000]),
            "final": (x[1000:], y[1000:]), "num_classes": 4}}
'''

DATASET_TEST = '''"""The data set has three splits of images that evosearch can train on."""

from pathlib import Path

from evosearch.plugins import load, read_source
from workers.datasets import load as load_data


def test_the_data_set_loads():
    load(read_source(str(Path(__file__).with_name("{file}"))))
    data = load_data("{name}")
    assert data.num_classes == 4
    assert data.train.x.ndim == 4
    assert min(len(data.train), len(data.select), len(data.final)) >= 100
'''

PRIMITIVE = '''"""A primitive of your own: one row of the op table.

Use:  evosearch search start quickstart --plugin {file} --set 'space.primitives=["{op}"]'
"""

import numpy as np

import evosearch as es

es.primitive(
    es.Primitive(
        "{op}", 1, "torch.atan(a)", "sympy.atan(a)", "{op}({{a}})",
        forward=lambda a, eps: np.arctan(a),
        # The gradient of the output times the slope, one for each input.
        vjp=lambda g, y, a, eps: (g / (1.0 + a * a),),
        properties=frozenset({{"odd", "bounded", "increasing", "fixes_zero"}}),
        cost=10,
    )
)
'''

PRIMITIVE_TEST = '''"""The row says the same thing in numpy, in torch, and in its gradient."""

from pathlib import Path

from evosearch.plugins import load, read_source
from primitives.row_check import row_faults


def test_the_row_is_right():
    loaded = load(read_source(str(Path(__file__).with_name("{file}"))))
    (entry,) = loaded.entries
    assert row_faults(entry.value) == []
'''

TEXTS = {
    "anchor": (ANCHOR, ANCHOR_TEST),
    "dataset": (DATASET, DATASET_TEST),
    "primitive": (PRIMITIVE, PRIMITIVE_TEST),
}


def skeleton(kind: Kind, name: str) -> dict[str, str]:
    """File name -> text, of the plug-in and its test.

    Raises:
        ConfigError: the name cannot be one.
    """
    plain = name.replace("-", "_")
    if not (plain.isascii() and plain.isidentifier() and plain.islower()):
        raise ConfigError(
            "this cannot be a name", expected="small letters, digits and dashes", got=repr(name)
        )
    words = {
        "name": name, "file": f"{plain}.py", "op": plain.replace("_", ""),
        "cls": "".join(part.capitalize() for part in plain.split("_")),
    }  # fmt: skip
    text, test = (one.format(**words) for one in TEXTS[kind])
    return {f"{plain}.py": text, f"test_{plain}.py": test}
