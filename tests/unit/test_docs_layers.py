"""The page about layers: its example runs, its tables name what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from primitives.artefacts import FILES

ROOT = Path(__file__).parents[2]


def test_the_worked_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "docs/examples/adopt_a_layer.py"], cwd=ROOT, timeout=180,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "EvolvedLayer(16" in done.stdout
    assert "4 replaced, 0 affine, 0 left" in done.stdout
    before, after = done.stdout.rsplit("loss before ", 1)[1].split(", after training on with the ")
    assert float(after.removeprefix("layer ")) < 1.2 * float(before)


def test_every_format_is_explained() -> None:
    page = (ROOT / "docs/layers.md").read_text()
    assert all(f"`{form}`" in page for form in [*FILES, "bundle"])
