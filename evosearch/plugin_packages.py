"""Offers the modules that a plug-in brings along: from their text, each version for itself.

Two searches may bring two versions of one package into one long-lived process. Modules are found by
name, so a version is in force at a time, and `use` puts it there with the modules it has loaded so
far. What is installed is never hidden by a user's module of that name.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

Files = tuple[tuple[str, str], ...]
"""Relative path -> text."""


def top_of(path: str) -> str:
    """The name by which a file, given relative to its folder, is imported first."""
    return path.partition("/")[0].removesuffix(".py")


def is_elsewhere(name: str, root: str) -> bool:
    """Whether Python finds the module without the folder ``root``."""
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    others = [one for one in sys.path if _full(one) != root]
    try:
        spec = PathFinder.find_spec(name, others)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    # A namespace is any folder of that name, and no reason to leave the user's out.
    return spec.origin is not None and not _lies_in(spec.origin, root)


def _full(folder: str) -> str:
    return str(Path(folder or ".").resolve())


def _lies_in(file: str, root: str) -> bool:
    return bool(root) and Path(root) in Path(file).resolve().parents


class Package:
    """Modules as text, and those of them that were executed.

    ``root``: the folder of which their files' names are told; it need not exist here.
    """

    def __init__(self, files: Files, root: str) -> None:
        self.root = root
        self.texts = {path: text for path, text in files if path.endswith(".py")}
        self.tops = frozenset(
            top for top in {top_of(path) for path in self.texts} if not is_elsewhere(top, root)
        )
        self.modules: dict[str, ModuleType] = {}

    def file(self, path: str) -> str:
        """The name that errors and frames have for a file."""
        return str(Path(self.root, path))

    def spec(self, name: str) -> ModuleSpec | None:
        """How the module of that name is made; None where this package has none."""
        base = name.replace(".", "/")
        for path, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
            if path in self.texts:
                loader = _Loader(self.texts[path], self.file(path))
                spec = ModuleSpec(
                    name, loader,  # type: ignore[arg-type]
                    origin=self.file(path), is_package=is_package,
                )  # fmt: skip
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [self.file(base)]
                return spec
        if any(path.startswith(base + "/") for path in self.texts):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [self.file(base)]
            return spec
        return None

    def show_lines(self) -> None:
        """Errors show these lines, on machines that have no such file, too."""
        for path, text in self.texts.items():
            file = self.file(path)
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)


class _Loader:
    """Executes a module's text."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._file = text, file

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind."""

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._text, self._file, "exec"), module.__dict__)

    def get_source(self, name: str) -> str:
        return self._text


class _Packages:
    """The finder: each name belongs to the package that was put in force last."""

    def __init__(self) -> None:
        self.active: dict[str, Package] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = self.active.get(fullname.partition(".")[0])
        return None if package is None else package.spec(fullname)


_finder = _Packages()


def use(package: Package) -> None:
    """From now on these modules are imported from this package; others step back as they are."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for top in package.tops:
        before = _finder.active.get(top)
        if before is package:
            continue
        taken = {name: sys.modules.pop(name) for name in loaded_of([top])}
        if before is not None:
            before.modules |= taken
        ours = {name: one for name, one in package.modules.items() if name.split(".")[0] == top}
        sys.modules.update(ours)
        _finder.active[top] = package
    package.show_lines()


def release(top: str) -> None:
    """From now on what is installed under this name is imported."""
    before = _finder.active.pop(top, None)
    if before is not None:
        before.modules |= {name: sys.modules.pop(name) for name in loaded_of([top])}


def installed_spec(module: str) -> ModuleSpec | None:
    """Where a module is installed, whatever package of that name is in force."""
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        found = (
            one.find_spec(".".join(names[:depth]), path)
            for one in sys.meta_path if one is not _finder
        )  # fmt: skip
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def keep(package: Package) -> None:
    """The package's modules were imported by the user's own script: they stay what they are."""
    package.modules |= {name: sys.modules[name] for name in loaded_of(package.tops)}


def loaded_of(tops: Iterable[str]) -> list[str]:
    """Names of loaded modules that begin with one of these."""
    wanted = frozenset(tops)
    return [name for name in sys.modules if name.partition(".")[0] in wanted]
