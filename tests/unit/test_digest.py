"""Digests: pinned for known layers, equal for equal structure, apart otherwise.

The golden file may change only together with `DIGEST_VERSION`: stored searches hold these digests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from primitives.catalog import CATALOG
from primitives.digest import DIGEST_VERSION, digest, encoding
from primitives.formula import parse
from primitives.rewrite import canonical, live_form
from tests.random_graphs import random_graphs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "digests.json").read_text())
ROOT = Path(__file__).parents[2]


def test_the_golden_file_is_of_this_version_and_complete() -> None:
    assert GOLDEN["version"] == DIGEST_VERSION
    assert set(GOLDEN["catalog"]) == set(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_catalog_layers_keep_their_digest(name: str) -> None:
    assert digest(CATALOG[name].graph) == GOLDEN["catalog"][name]


def test_random_graphs_keep_their_digest() -> None:
    """One hash over many digests pins all rules and the order of inputs."""
    texts = (digest(parse(text)) for text in GOLDEN["formulas"])
    assert sha256("".join(texts).encode()).hexdigest() == GOLDEN["formulas_sha256"]


def test_digest_follows_the_canonical_form() -> None:
    graphs = random_graphs(2000, seed=31)
    forms: dict[str, object] = {}
    for graph in graphs:
        form = canonical(graph)
        assert forms.setdefault(digest(graph), form) == form
        assert digest(form) == digest(live_form(graph)) == digest(graph)
    assert len(forms) == len({canonical(graph) for graph in graphs})
    assert len(forms) > 300


def test_digest_is_the_hash_of_a_versioned_text() -> None:
    graph = parse("x / std_batch(x)")
    assert encoding(graph) == f"evosearch-graph-{DIGEST_VERSION};std_batch 0;div 0 4"
    assert digest(graph) == sha256(encoding(graph).encode()).hexdigest()


def test_digest_does_not_depend_on_the_processes_hash_seed() -> None:
    code = (
        "from primitives.digest import digest; from primitives.formula import parse;"
        "print(digest(parse('(x + v0) * (v1 + x) / max(std_group(x), -x)')))"
    )
    seen = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True,
            text=True, check=True, timeout=60,
        )  # fmt: skip
        seen.add(done.stdout.strip())
    assert len(seen) == 1
    assert len(seen.pop()) == 64
