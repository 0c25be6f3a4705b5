"""Writes docs/reference.md from the code: commands, settings, operators, endpoints, codes.

    python -m docs.make_reference          # make reference

A test compares the page with what this writes, so that nothing stays undocumented.
"""

from __future__ import annotations

import ast
import inspect
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Written from the code by `make reference`; every command, setting, operator, endpoint, primitive
and rejection code that there is.
"""
MORE = {"evolution.operators": " All of them: [operators](#operators)."}
"""Setting -> what the page says of it beside its description."""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, rows in (
        ("Commands", commands()), ("Settings of a search", search_settings()),
        ("Operators", operators()), ("Settings of the service", service_settings()),
        ("REST", endpoints()), ("Primitives", primitives()), ("Rejection codes", codes()),
        ("Python", names()),
    ):  # fmt: skip
        parts += [f"## {title}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[str]:
    """Every command with its options and what it does."""
    from typer.main import get_command

    from api.cli import app

    yield from _commands(get_command(app), "evosearch")


def _commands(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], f"{path} {name}")
        return
    if getattr(command, "hidden", False):
        return
    shown = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown.append(parameter.metavar or str(parameter.name).upper())
    options = [
        option for parameter in command.params if parameter.param_type_name == "option"
        for option in parameter.opts if option != "--help"
    ]  # fmt: skip
    line = " ".join([path, *shown])
    help_text = " ".join((command.help or "").split())
    tail = f" Options: {', '.join(f'`{one}`' for one in options)}." if options else ""
    yield f"- `{line}`: {help_text}{tail}"


def search_settings() -> Iterator[str]:
    """Every key of a config with its default and its description in the code."""
    from evosearch.config import SearchConfig

    yield from _settings(SearchConfig, "")


def _settings(model: Any, prefix: str) -> Iterator[str]:
    texts = _attribute_texts(model)
    for name, field in model.model_fields.items():
        inner = _inner_model(field.annotation)
        path = f"{prefix}{name}"
        if inner is not None:
            yield f"- `{path}`: {texts.get(name) or _first(inner.__doc__)}"
            yield from _settings(inner, f"{path}.")
            continue
        default = "required" if field.is_required() else f"default `{_shown(field)}`"
        text = texts.get(name) or field.description or ""
        yield f"- `{path}` ({default}){': ' + text if text else ''}{MORE.get(path, '')}"


def _inner_model(annotation: Any) -> Any:
    from typing import get_args

    from pydantic import BaseModel

    for one in (annotation, *get_args(annotation)):
        if inspect.isclass(one) and issubclass(one, BaseModel):
            return one
        for inner in get_args(one):
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                return inner
    return None


def _attribute_texts(model: Any) -> dict[str, str]:
    """Attribute -> the string that stands below it in the source."""
    tree = ast.parse(inspect.getsource(model).lstrip())
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for before, after in pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and is_text:
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def _shown(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else str(value) if value != "" else '""'


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def operators() -> Iterator[str]:
    """Every operator with what it does and its weight in each preset."""
    from evosearch.operators import OPERATORS
    from evosearch.presets import load_preset, preset_names

    presets: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for name in preset_names():
        weights = load_preset(name).evolution.operators
        presets.setdefault(tuple(sorted(weights.items())), []).append(f"`{name}`")
    heads = [", ".join(names) for names in presets.values()]
    yield (
        "What `evolution.operators` may name, and its weights in the presets. A child takes one to "
        "`evolution.mutations` edits, each by an operator that is drawn in proportion to its "
        "weight. Where none is named each child takes exactly `evolution.mutations` edits by "
        "`paper`. All but `paper` edit the live graph, and drop dead nodes.\n"
    )
    yield f"| operator | what it does | {' | '.join(heads)} |"
    yield "|---" * (2 + len(heads)) + "|"
    for name, row in OPERATORS.items():
        told = (dict(weights).get(name, "") if weights else _alone(name) for weights in presets)
        yield f"| `{name}` | {row.meaning} | {' | '.join(map(str, told))} |"


def _alone(name: str) -> str:
    """What stands in the column of presets that name no operator."""
    return "alone" if name == "paper" else ""


def service_settings() -> Iterator[str]:
    """Every setting of the service and its variable."""
    from api.first_pass import SECONDS, SECONDS_VARIABLE
    from api.settings import ServiceSettings
    from evosearch.plugins import PATH_VARIABLE

    for name, field in ServiceSettings.model_fields.items():
        yield f"- `EVOSEARCH_{name.upper()}` (default `{_shown(field)}`): {field.description}"
    yield f"- `{PATH_VARIABLE}`: folder of a package of yours that those plug-ins import"
    yield (
        f"- `{SECONDS_VARIABLE}` (default `{SECONDS:g}`): seconds that a first pass through an own "
        "anchor may take before a search"
    )


def endpoints() -> Iterator[str]:
    """Every route and what it answers."""
    from api.app import make_app
    from api.settings import ServiceSettings

    with tempfile.TemporaryDirectory() as folder:
        made = make_app(ServiceSettings(db=f"sqlite:///{folder}/reference.db"))
        document = made.api.openapi()
        made.service.close()
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            text = _first(operation.get("description") or operation.get("summary"))
            yield f"- `{method.upper()} {path}`: {text}"


def primitives() -> Iterator[str]:
    """Every row of the op table."""
    from primitives.ops import OPS

    for name, row in OPS.items():
        sets = f", over {', '.join(row.index_sets)}" if row.index_sets else ""
        facts = f"; {', '.join(sorted(row.properties))}" if row.properties else ""
        yield f"- `{name}`: `{row.torch}`, {row.arity} inputs{sets}, cost {row.cost:g}{facts}"


def codes() -> Iterator[str]:
    """Every rejection code."""
    from evosearch.screen import SCREEN_CODES, WORKER_CODES

    for code, meaning in SCREEN_CODES.items():
        yield f"- `{code}` (controller): {meaning}"
    for code, meaning in WORKER_CODES.items():
        yield f"- `{code}` (worker): {meaning}"


def names() -> Iterator[str]:
    """Every public name of the package."""
    import evosearch

    for name in evosearch.__all__:
        thing = getattr(evosearch, name)
        text = _first(inspect.getdoc(thing)) if callable(thing) or inspect.ismodule(thing) else ""
        yield f"- `evosearch.{name}`{': ' + text if text else ''}"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
