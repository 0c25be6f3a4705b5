"""A search on the tabular benchmark from the public face: what docs/table.md shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evosearch as es
from evosearch.errors import NotFound

PAGE = Path(__file__).parents[2] / "docs" / "table.md"


def test_the_pages_search_runs_and_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    run = names["run"]
    assert run.status == "finished"
    assert run.state.evaluated == 8
    table = names["table"]
    for member in run.state.members.values():
        assert table.find(member.graph) is not None
    assert run.state.rejected["outside_table"] == 0
    assert "provisional" in capsys.readouterr().out


def test_names_are_found_without_loading_torch_before_they_are_used() -> None:
    code = (
        "import sys, evosearch as es; assert {'TablePool', 'load_table'} <= set(dir(es)); "
        "assert 'workers' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_is_found_by_its_path_as_text(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such table"):
        es.load_table(str(tmp_path / "none.npz"))
