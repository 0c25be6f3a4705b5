"""The examples of the documentation run, tiny, from a folder of their own, and are short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api.anchor_check import check_anchor
from tests.acceptance.command import ROOT, environment
from tests.support.forked import forked

EXAMPLES = ROOT / "docs" / "examples"
OWN = ("segmentation", "char_transformer", "tabular_mlp")


def run(folder: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, code, *arguments], cwd=folder,
        env=environment() | {"EVOSEARCH_EXAMPLE": "small"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", OWN)
def test_an_example_searches_and_says_what_came_of_it(tmp_path: Path, name: str) -> None:
    file = EXAMPLES / f"{name}.py"
    assert len(file.read_text().splitlines()) < 80
    lines = run(tmp_path, str(file), "2", "6").strip().splitlines()
    assert lines[-1].startswith(("better: ", "not better: "))
    assert (tmp_path / "evosearch.db").exists()


@pytest.mark.parametrize("name", OWN)
def test_an_example_passes_its_check(name: str) -> None:
    found = check_anchor(str(EXAMPLES / f"{name}.py"), seeds=1, steps=3, start=forked)
    assert found.error == ""
    assert found.failed == []


def test_the_notebook_runs_headless_with_its_displays(tmp_path: Path) -> None:
    """As a kernel would: the value of a cell's last line is shown in its richest form."""
    shown = tmp_path / "shown.py"
    text = (EXAMPLES / "notebook.py").read_text()
    assert text.count("# %%") >= 8
    shown.write_text(
        "import ast, sys, types\n"
        "module = sys.modules['__main__'] = types.ModuleType('__main__')\n"
        f"text = open({str(EXAMPLES / 'notebook.py')!r}).read()\n"
        "for number, cell in enumerate(text.split('# %%')):\n"
        "    tree = ast.parse(cell.replace(' [markdown]', '# '))\n"
        "    shown = tree.body and isinstance(tree.body[-1], ast.Expr)\n"
        "    last = tree.body.pop() if shown else None\n"
        "    exec(compile(tree, f'<cell {number}>', 'exec'), module.__dict__)\n"
        "    if last is not None:\n"
        "        value = eval(compile(ast.Expression(last.value), f'<cell {number}>', 'eval'),\n"
        "                     module.__dict__)\n"
        "        for one in value if isinstance(value, tuple) else (value,):\n"
        "            if hasattr(one, '_repr_html_'):\n"
        "                print(type(one).__name__, len(one._repr_html_()) > 100)\n"
        "print(module.figure.to_json()[:20000].replace('\\n', ' '))\n"
    )
    out = run(tmp_path, str(shown)).splitlines()
    kinds = [line.split()[0] for line in out if line.endswith(" True")]
    assert {"Run", "Figure", "Candidate"} <= set(kinds), out
    figure = json.loads(out[-1])
    names = [trace["name"] for trace in figure["data"]]
    assert names[:3] == ["evaluated", "front", "leader"]
