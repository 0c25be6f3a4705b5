"""Who imports whom, read from the source: one direction between rooms, one owner per library.

The texts are read and what a process really loads is looked at, for an import may hide in either.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "primitives": set(),
    "evosearch": {"primitives"},
    "workers": {"primitives", "evosearch"},
    "db": {"primitives", "evosearch"},
    "api": {"primitives", "evosearch", "workers", "db"},
}
"""Room -> rooms that it may import."""

OWNERS = {
    "torch": {"primitives", "workers", "api"},
    "sympy": {"primitives"},
    "networkx": {"primitives"},
    "ray": {"workers"},
    "sklearn": {"evosearch", "workers"},
    "PIL": {"workers"},
    "sqlalchemy": {"db"},
    "alembic": {"db"},
    "psycopg": {"db"},
    "fastapi": {"api"},
    "typer": {"api"},
    "rich": {"api"},
    "scipy": {"evosearch"},
}
"""Library -> rooms that may import it; libraries that are not named here are free."""

PUBLIC_FACE = Path("evosearch/__init__.py")
"""It names things of other rooms, which it loads when they are asked for."""


def sources(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"no source in {room}"
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(top-level package, line) of every import below the node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0], node.lineno


def at_module_level(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Imports that run when the module is loaded; those under TYPE_CHECKING do not."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield from imports(statement)


def wrong_imports(text: str, room: str) -> list[str]:
    """What a file of that room imports and may not."""
    wrong = []
    for package, line in imports(ast.parse(text)):
        if package in ROOMS and package != room and package not in ROOMS[room]:
            wrong.append(f"line {line}: {room} must not import {package}")
        if room not in OWNERS.get(package, {room}):
            wrong.append(f"line {line}: {package} belongs to {', '.join(sorted(OWNERS[package]))}")
    return wrong


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way_and_libraries_have_owners(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} {fault}"
        for path in sources(room)
        if path.relative_to(ROOT) != PUBLIC_FACE
        for fault in wrong_imports(path.read_text(), room)
    ]
    assert wrong == []


def test_a_wrong_arrow_and_a_borrowed_library_are_seen() -> None:
    assert wrong_imports("from db import open_store", "workers") == [
        "line 1: workers must not import db"
    ]
    assert wrong_imports("def f():\n    import ray.util", "evosearch") == [
        "line 2: ray belongs to workers"
    ]
    assert wrong_imports("import json\nfrom primitives.graph import Graph", "evosearch") == []


@pytest.mark.parametrize("room", ["evosearch", "db", "api"])
def test_torch_and_ray_are_not_imported_at_module_level(room: str) -> None:
    heavy = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(room)
        for package, line in at_module_level(ast.parse(path.read_text()))
        if package in ("torch", "ray")
    ]
    assert heavy == []


@pytest.mark.parametrize("library", sorted(set(OWNERS) - {"torch", "psycopg", "fastapi"}))
def test_an_owner_uses_its_library(library: str) -> None:
    used = {
        room
        for room in OWNERS[library]
        for path in sources(room)
        if any(package == library for package, _ in imports(ast.parse(path.read_text())))
    }
    assert used == OWNERS[library]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("api.cli", ("torch", "ray", "sqlalchemy", "alembic", "sklearn", "scipy")),
        ("evosearch.controller", ("torch", "ray", "sqlalchemy", "sklearn")),
        ("db.sql_store", ("torch", "ray", "sklearn")),
        ("db.queries", ("torch", "ray", "sklearn")),
        ("workers.ray_actor", ("torch", "ray", "sqlalchemy", "sklearn", "numpy")),
        ("api.run", ("ray", "sklearn", "scipy.stats", "pandas")),
        ("evosearch", ("torch", "ray", "numpy")),
    ],
)
def test_a_process_that_imports_it_loads_nothing_heavy(
    module: str, forbidden: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & set(forbidden) == set()
