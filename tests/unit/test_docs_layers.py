"""The page about layers: its example runs, its tables name what there is."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

from primitives.artefacts import FILES

ROOT = Path(__file__).parents[2]


def test_the_worked_example_searches_exports_replaces_and_trains_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/examples/adopt_a_layer.py", "2", "6"], cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}, timeout=180,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    formula = done.stdout.split("leader: ", 1)[1].splitlines()[0]
    # What was written and what was placed is what the search found.
    assert f"\nFormula: {formula}\n" in done.stdout
    assert "\nScores on select: squares " in done.stdout
    assert "EvolvedLayer(16" in done.stdout
    assert "4 replaced, 0 affine, 0 left" in done.stdout
    before, after = done.stdout.rsplit("loss before ", 1)[1].split(", after training on with the ")
    assert math.isfinite(float(before))
    assert math.isfinite(float(after.removeprefix("layer ")))


def test_every_format_is_explained() -> None:
    page = (ROOT / "docs/layers.md").read_text()
    assert all(f"`{form}`" in page for form in [*FILES, "bundle"])
