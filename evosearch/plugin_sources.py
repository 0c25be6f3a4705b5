"""Reads the text of a plug-in and of everything of the user's own that it imports.

All of it is hashed, travels to workers as text, and runs there from that text. What cannot be read
as Python text (compiled modules, data files, what an installed package imports from others) is none
of the hash. This file must not import torch, and must not execute what it reads.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from evosearch.config import Plugin
from evosearch.errors import PluginError
from evosearch.plugin_packages import Files, installed_spec, is_elsewhere, top_of

GROUP = "evosearch.plugins"
"""Entry points of installed packages whose import registers something."""
MAX_BYTES = 2_000_000
MAX_FILES = 400
NO_CODE = ("__pycache__", "site-packages")
TAKEN = ("api", "db", "evosearch", "primitives", "workers")


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a plug-in and of the user's own modules that it imports.

    ``module``: of an entry point: what is imported; workers that have the same code installed
    import theirs. ``extra``: relative path -> text of the files below ``--plugin-path``, beside the
    plug-in, or of the installed package; ``folder``: ``--plugin-path`` on this machine.
    """

    name: str
    file: str
    text: str
    extra: Files = ()
    folder: str = ""
    module: str = ""

    @property
    def entry_point(self) -> bool:
        """Whether it is a module of an installed package."""
        return bool(self.module)

    @property
    def sha256(self) -> str:
        """Of everything that is executed, and not of where it lies."""
        found = hashlib.sha256(self.text.encode())
        for path, text in self.extra:
            found.update(b"\0" + path.encode() + b"\0" + text.encode())
        return found.hexdigest()

    @property
    def root(self) -> str:
        """The folder of which the files of ``extra`` are named."""
        if self.module:
            return str(Path(self.file).parents[self.module.count(".") + self._is_package])
        return self.folder or (str(Path(self.file).parent) if self.file else "")

    @property
    def _is_package(self) -> bool:
        return Path(self.file).name == "__init__.py"

    @property
    def plugin(self) -> Plugin:
        """The plug-in as configs name it."""
        return Plugin(name=self.name, sha256=self.sha256, file=self.file, folder=self.folder)

    def to_json(self) -> dict[str, Any]:
        """What a worker is sent."""
        return {
            "name": self.name, "file": self.file, "text": self.text,
            "extra": [list(pair) for pair in self.extra], "module": self.module,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """The source that `to_json` said; the user's folder is none of the worker's."""
        extra = tuple((str(path), str(text)) for path, text in data["extra"])
        return cls(data["name"], data["file"], data["text"], extra, "", str(data["module"]))


def read_source(reference: str, plugin_path: Path | None = None) -> Source:
    """The source of a file, or of an installed package's entry point.

    ``plugin_path``: the folder of a package that the file imports; what lies beside the file and is
    imported comes by itself. An entry point has its package, and nothing else.

    Raises:
        PluginError: there is no such thing, or it is too large to travel.
    """
    if not reference.endswith(".py"):
        return entry_source(reference)
    path = Path(reference).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise PluginError(
            f"cannot read the plug-in {reference}", got=str(err),
            hint="give the path of a Python file",
        ) from err  # fmt: skip
    if len(text) > MAX_BYTES:
        raise PluginError(f"{reference} is too large", expected=f"at most {MAX_BYTES} bytes")
    return file_source(path.name, path.resolve(), text, plugin_path)


def file_source(name: str, file: Path, text: str, plugin_path: Path | None) -> Source:
    """The source of a text that lies in a file, with the modules beside it that it imports.

    Raises:
        PluginError: they are too large to travel, or have a name that is taken.
    """
    extra, folder = with_siblings(file.parent, text, plugin_path)
    folders = [file.parent, *([plugin_path] if plugin_path is not None else [])]
    _refuse_taken([(name, text), *extra], folders)
    return Source(name, str(file), text, extra, folder)


def with_siblings(beside: Path, text: str, plugin_path: Path | None) -> tuple[Files, str]:
    """What comes along with a text: the folder's files, and imported modules beside it.

    Raises:
        PluginError: they are too large to travel.
    """
    extra, folder = {}, ""
    if plugin_path is not None:
        folder = str(plugin_path.resolve())
        extra = _folder_files(plugin_path)
    known = {top_of(path) for path in extra}
    siblings = _siblings(beside, text)
    extra |= {path: one for path, one in siblings.items() if top_of(path) not in known}
    _refuse_too_much(extra, beside)
    return tuple(sorted(extra.items())), folder


def entry_source(name: str) -> Source:
    """The source of an entry point, with all Python files of the package it lies in.

    A package too large to travel is hashed, and its code must be installed where it runs.

    Raises:
        PluginError: there is no such entry point.
    """
    points = {one.name: one for one in entry_points(group=GROUP)}
    if name not in points:
        raise PluginError(
            "unknown plug-in", got=repr(name)[:80],
            expected="a file that ends in .py" + (f", or {', '.join(points)}" if points else ""),
        )  # fmt: skip
    module = points[name].module
    spec = installed_spec(module)
    if spec is None or not spec.origin:
        raise PluginError(f"the entry point {name} has no file", got=module)
    text = Path(spec.origin).read_text(encoding="utf-8")
    top = installed_spec(module.partition(".")[0])
    places = list(top.submodule_search_locations or ()) if top is not None else []
    if places:
        found = {f"{Path(places[0]).name}/{path}": one for path, one in _python_files(places[0])}
    else:
        found = {f"{module}.py": text}
    if len(found) > MAX_FILES or sum(map(len, found.values())) > MAX_BYTES:
        whole = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()
        found = {"*": whole}
    return Source(name, spec.origin, text, tuple(sorted(found.items())), "", module)


def _folder_files(folder: Path) -> dict[str, str]:
    """Python files below the folder, but for those of this package's own names."""
    if not folder.is_dir():
        raise PluginError("--plugin-path is no folder", got=str(folder))
    found: dict[str, str] = {}
    for path, text in _python_files(folder):
        if top_of(path) not in TAKEN:  # these would never be imported
            found[path] = text
            _refuse_too_much(found, folder)
    return found


def _python_files(folder: str | Path) -> Iterable[tuple[str, str]]:
    """Relative path and text, without hidden folders and environments."""
    for path in sorted(Path(folder).rglob("*.py")):
        parts = path.relative_to(folder).parts
        if not any(part.startswith(".") or part in NO_CODE for part in parts):
            yield "/".join(parts), path.read_text(encoding="utf-8", errors="replace")


def _siblings(folder: Path, text: str) -> dict[str, str]:
    """Modules in the folder that the text imports, and what these import in turn."""
    found: dict[str, str] = {}
    waiting, seen = [text], set(TAKEN)
    while waiting:
        for name in sorted(imported_names(waiting.pop()) - seen):
            seen.add(name)
            module, package = folder / f"{name}.py", folder / name
            if not (module.is_file() or package.is_dir()) or is_elsewhere(name, str(folder)):
                continue
            texts = {f"{name}/{path}": one for path, one in _python_files(package)}
            if module.is_file() and not (package / "__init__.py").is_file():
                texts = {f"{name}.py": module.read_text(encoding="utf-8", errors="replace")}
            found |= texts
            waiting += texts.values()
    return found


def imported_names(text: str) -> set[str]:
    """First names of the modules that a text imports, anywhere in it."""
    return {top for top, _, _ in _imports(text)}


def _imports(text: str) -> list[tuple[str, str, int]]:
    """First and second name of each import of a text ("" for none), and its line."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []  # whoever executes it says so
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(one.name, node.lineno) for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names += [(f"{node.module}.{one.name}", node.lineno) for one in node.names]
    parts = [(name.split("."), line) for name, line in names]
    return [(one[0], one[1] if len(one) > 1 else "", line) for one, line in parts]


def _refuse_taken(texts: Iterable[tuple[str, str]], folders: Iterable[Path]) -> None:
    """Refuse an import that means a module of the user's own and would reach one of ours.

    Raises:
        PluginError: there is one; the error names its line.
    """
    known = [one for one in folders if not (one / "evosearch" / "plugin_sources.py").is_file()]
    for file, text in texts:
        for top, inner, line in _imports(text):
            if top in TAKEN and any(_means_theirs(folder, top, inner) for folder in known):
                raise PluginError(
                    f"evosearch has a package {top} of its own, and the one of yours cannot be "
                    "imported beside it", where=f"{file}:{line}", hint=f"rename {top}",
                )  # fmt: skip


def _means_theirs(folder: Path, top: str, inner: str) -> bool:
    """Whether an import of ``top.inner`` means what lies in the user's folder."""
    ours = Path(__file__).parents[1]
    if inner and _is_module(folder / top / inner):
        return top != "evosearch" or not _is_module(ours / top / inner)
    # Every plug-in imports evosearch and means ours, whatever else has that name.
    is_ours = top == "evosearch" or (inner != "" and _is_module(ours / top / inner))
    return not is_ours and _is_module(folder / top)


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _refuse_too_much(files: Mapping[str, str], folder: Path) -> None:
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise PluginError(
            "what the plug-in brings along is too much to send to workers", got=str(folder),
            expected=f"at most {MAX_FILES} files and {MAX_BYTES} bytes of Python",
            hint="name the folder of the package that it imports with --plugin-path",
        )  # fmt: skip
