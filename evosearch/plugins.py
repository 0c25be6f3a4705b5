"""Loads code of a user's own: by file path or entry point, from its text, under its content hash.

A file is never found by the user's folder on ``sys.path``; it becomes a module of a name of its
own, so that folders called ``db`` or ``api`` beside it stay out. What travels to workers is text
and hash, and what runs there is what was hashed here. This file must not import torch.
"""

from __future__ import annotations

import importlib
import json
import linecache
import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evosearch.config import Plugin
from evosearch.errors import EvosearchError, GraphError, PluginError
from evosearch.own import REGISTER, Entry, collecting
from evosearch.plugin_cells import cells_text, functions_of, parts_of
from evosearch.plugin_packages import Package, keep, release, top_of, use
from evosearch.plugin_sources import Source as Source
from evosearch.plugin_sources import entry_source, file_source, with_siblings
from evosearch.plugin_sources import read_source as read_source
from evosearch.records import Job

VARIABLE = "EVOSEARCH_PLUGINS"
"""Files and entry points that a server offers, separated as in PATH."""
PATH_VARIABLE = "EVOSEARCH_PLUGIN_PATH"
"""Folder of a package that those files import."""
MODULE_PREFIX = "evosearch_plugin_"
NOTEBOOK = "notebook"
"""Name of what a notebook registered: it has no file."""


@dataclass(slots=True)
class Loaded:
    """A plug-in that was executed in this process, and what it registered.

    ``package``: the user's own modules that came with it.
    """

    source: Source
    module: types.ModuleType
    entries: list[Entry] = field(default_factory=list)
    package: Package | None = None

    @property
    def plugin(self) -> Plugin:
        """The plug-in as configs name it."""
        return self.source.plugin


_LOADED: dict[str, Loaded] = {}
_packages: dict[tuple[tuple[tuple[str, str], ...], str], Package] = {}
_files: set[str] = set()
"""Names of files, as frames have them, in which a user's line is looked for."""


def load(source: Source) -> Loaded:
    """Execute the plug-in, once a process for each content, and keep what it registers.

    Raises:
        PluginError: it fails; ``where`` is the user's line.
    """
    known = _LOADED.get(source.sha256)
    if known is None:
        known = _execute(source)
        _add_rows(known.entries)
        _LOADED[source.sha256] = known  # only now: what failed once fails again
    _put_in_force(known)
    return known


def _put_in_force(known: Loaded) -> None:
    """Its names and modules are what these names mean from now on."""
    if known.package is not None:
        use(known.package)
    REGISTER.replace(known.entries)


def _add_rows(entries: Iterable[Entry]) -> None:
    from primitives.extension import add_row

    for entry in entries:
        if entry.kind != "primitive":
            continue
        try:
            add_row(entry.value)
        except GraphError as err:
            raise PluginError(str(err), where=entry.where) from err


def _package_of(source: Source) -> Package | None:
    """The modules that came with a source; two plug-ins of one folder share them."""
    if not source.extra:
        return None
    known = _packages.get((source.extra, source.root))
    if known is None:
        known = _packages[source.extra, source.root] = Package(source.extra, source.root)
    _files.update(known.file(path) for path in known.texts)
    return known


def _execute(source: Source) -> Loaded:
    stem = Path(source.name).stem.replace("-", "_").replace(".", "_")
    name = f"{MODULE_PREFIX}{stem}_{source.sha256[:8]}"
    _files.add(source.file)
    if source.entry_point:
        return _import_entry(source)
    package = _package_of(source)
    if package is not None:
        use(package)
    with collecting() as register:
        module = types.ModuleType(name)
        module.__file__ = source.file
        # With its lines known here, errors show them on machines that have no such file.
        lines = source.text.splitlines(True)
        linecache.cache[source.file] = (len(source.text), None, lines, source.file)
        sys.modules[name] = module
        try:
            exec(compile(source.text, source.file, "exec"), module.__dict__)
        except PluginError:
            raise
        except SystemExit as err:
            raise _ended(err, source) from err
        except Exception as err:  # whatever a user's file does wrong when it is loaded
            raise plugin_error(err, f"{source.name} cannot be loaded", source) from err
    return _registered(source, module, register.entries(), package)


def _registered(
    source: Source, module: types.ModuleType, entries: list[Entry], package: Package | None
) -> Loaded:
    if not entries:
        raise PluginError(
            "it registers nothing", where=source.name,
            expected="a call of es.anchor, es.evaluator, es.dataset, es.objective, es.check, "
            "es.primitive or es.alert_sink",
        )  # fmt: skip
    return Loaded(source, module, entries, package)


def _ended(err: SystemExit, source: Source) -> PluginError:
    return PluginError(
        f"{source.name} ends the process when it is loaded", where=user_line(err) or source.name,
        got=f"exit code {err.code}", hint='put it under: if __name__ == "__main__":',
    )  # fmt: skip


def _import_entry(source: Source) -> Loaded:
    """Import the installed package, if it is the same; else what came as text, if it is not here.

    Raises:
        PluginError: other code is installed, or the plug-in fails.
    """
    package = None
    try:
        here: Source | None = entry_source(source.name)
    except PluginError:
        here = None
    if here is not None and here.sha256 != source.sha256:
        raise PluginError(
            f"other code of the plug-in {source.name} is installed here", where=here.file,
            expected=f"sha256 {source.sha256[:12]}", got=here.sha256[:12],
            hint="install the version that the search was made with",
        )  # fmt: skip
    top = source.module.partition(".")[0]
    if here is not None:
        _files.add(here.file)
        release(top)
    else:
        package = _package_of(source)
        if package is None or not package.texts:
            raise PluginError(
                f"the plug-in {source.name} is not installed here, and too large to be sent",
                hint="install it where workers run",
            )
        use(package)
    with collecting() as register:
        sys.modules.pop(source.module, None)  # what it registered before is registered here again
        try:
            module = importlib.import_module(source.module)
        except PluginError:
            raise
        except SystemExit as err:
            raise _ended(err, source) from err
        except Exception as err:  # whatever an installed plug-in does wrong when it is imported
            what = f"the plug-in {source.name} cannot be loaded"
            raise plugin_error(err, what, source) from err
    # A module below it may have registered them before, when somebody else imported it.
    entries = register.entries() or [
        one for one in REGISTER.entries() if one.module.partition(".")[0] == top
    ]
    return _registered(source, module, entries, package)


def adopt(module_name: str, plugin_path: Path | None = None) -> Loaded | None:
    """What a script, an imported module or a notebook registered itself, as a plug-in.

    None: it registered nothing. A notebook has no file; its text is that of what it registered and
    of all that this reaches in other cells.

    Raises:
        PluginError: what it brings along is too much to send to workers.
    """
    entries = [one for one in REGISTER.entries() if one.module == module_name]
    module = sys.modules.get(module_name)
    if not entries or module is None:
        return None
    file = getattr(module, "__file__", None)
    if file is not None and Path(file).is_file():
        path = Path(file).resolve()
        source = file_source(path.name, path, path.read_text("utf-8"), plugin_path)
    else:
        text = cells_text(entries, module)
        extra, folder = with_siblings(Path.cwd(), _imports_of(module), plugin_path)
        source = Source(NOTEBOOK, "", text, extra, (folder or str(Path.cwd())) if extra else "")
    _files.update(code_files(entries))
    package = _package_of(source)
    if package is not None:
        keep(package)
        use(package)
    made = Loaded(source, module, entries, package)
    _add_rows(entries)
    _LOADED[source.sha256] = made
    return made


def _imports_of(module: types.ModuleType) -> str:
    """What a notebook's names come from, as a text that imports it."""
    found = {
        value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", "")
        for name, value in vars(module).items() if not name.startswith("_")
    }  # fmt: skip
    names = {str(one).partition(".")[0] for one in found if one}
    return "".join(f"import {name}\n" for name in sorted(names) if name.isidentifier())


def code_files(entries: Iterable[Entry]) -> set[str]:
    """File names, as frames have them, of the entries' functions and classes."""
    parts = [part for entry in entries for part in parts_of(entry)]
    return {one.__code__.co_filename for part in parts for one in functions_of(part)}


def receive(data: Mapping[str, Any], sources: dict[str, Source]) -> None:
    """On a worker: keep a source that came with a job; what has no file came as bytes of Ray's."""
    source = Source.from_json(data)
    if source.sha256 in sources:
        return  # it came with another job, too
    sources[source.sha256] = source
    if "pickled" in data:
        import pickle

        package = _package_of(source)
        if package is not None:
            use(package)
        entries = pickle.loads(data["pickled"])
        _files.update(code_files(entries))
        _add_rows(entries)
        _LOADED[source.sha256] = Loaded(source, types.ModuleType(NOTEBOOK), entries, package)


def loaded(sha256: str) -> Loaded | None:
    """The plug-in of that content, if this process has executed it."""
    return _LOADED.get(sha256)


def ensure(
    plugins: Iterable[Plugin],
    sources: Mapping[str, Source] | None = None,
    *,
    registered_only: bool = False,
) -> None:
    """Have these plug-ins loaded and in force: those of other searches step back.

    ``sources``: sha256 -> source that travelled with a job. ``registered_only``: nothing is loaded
    from where a config says, but only what `VARIABLE` names.

    Raises:
        PluginError: one is not to be found, or is not what was hashed.
    """
    brought: dict[str, tuple[str, str]] = {}
    for plugin in plugins:
        known = _LOADED.get(plugin.sha256)
        if known is not None:
            _put_in_force(known)
        else:
            source = (sources or {}).get(plugin.sha256)
            if source is None:
                source = find(plugin, registered_only=registered_only)
            known = load(source)
        for path, text in known.source.extra:
            other = brought.setdefault(path, (text, plugin.name))
            if other[0] != text:
                raise PluginError(
                    f"two plug-ins of one search bring different modules {top_of(path)}",
                    got=f"{path} of {other[1]} and of {plugin.name}", hint="rename one of them",
                )  # fmt: skip


def plugins_of(job: Mapping[str, Any]) -> list[Plugin]:
    """The plug-ins of a job that is data still; its graph is read once their primitives are here.

    Raises:
        LookupError, TypeError, ValueError: it is no job.
    """
    return [Plugin.model_validate(one) for one in job["task"]["plugins"]]


def read_job(text: str, sources: Mapping[str, Source]) -> Job:
    """The job that came as text, with its plug-ins loaded: its graph may hold their primitives.

    ``sources``: as for `ensure`.

    Raises:
        PluginError: as `ensure`.
        LookupError, TypeError, ValueError, GraphError: it is no job.
    """
    ensure(plugins_of(json.loads(text)), sources)
    return Job.model_validate_json(text)


def find(
    plugin: Plugin, *, registered_only: bool = False, beside: Path | None = None
) -> Source:  # fmt: skip
    """The source of a plug-in that a config names, unchanged since then.

    Looked for in the folder ``beside``, where it was, in the folder at hand, and among the files of
    `VARIABLE`, or among these alone.

    Raises:
        PluginError: it is gone, or has changed.
    """
    found, other = _look_for(plugin, registered_only, beside)
    if found is not None:
        return found
    if other is not None:
        raise PluginError(
            f"the plug-in {plugin.name} has changed since the search was made", where=other.file,
            expected=f"sha256 {plugin.sha256[:12]}", got=other.sha256[:12],
            hint="bring the old text back, resume it with --accept-changed-code (over REST "
            "accept_changed_code), or start a search of its own with the new one",
        )  # fmt: skip
    places = ", ".join(_places(plugin, registered_only, beside)) or "no place"
    raise PluginError(
        f"the plug-in {plugin.name} is not here", expected=f"sha256 {plugin.sha256[:12]}",
        got=f"nothing in {places}", hint=f"name its path in {VARIABLE}",
    )  # fmt: skip


def found_instead(plugin: Plugin) -> Source | None:
    """What is found in place of a plug-in whose text has changed; None where it has not.

    A text that this process has executed has not changed here, whatever its file says now.
    """
    if plugin.sha256 in _LOADED:
        return None
    found, other = _look_for(plugin, registered_only=False)
    return other if found is None else None


def _look_for(
    plugin: Plugin, registered_only: bool, beside: Path | None = None
) -> tuple[Source | None, Source | None]:
    """The plug-in unchanged; else the first source of its name with another text."""
    other = None
    offered = registered_path()
    folder = Path(plugin.folder) if plugin.folder and not registered_only else None
    for place in _places(plugin, registered_only, beside):
        try:
            source = read_source(place, offered if place in registered() else folder)
        except EvosearchError:
            continue
        if not plugin.sha256 or source.sha256 == plugin.sha256:
            return source, None
        other = other or source
    return None, other


def _places(plugin: Plugin, registered_only: bool, beside: Path | None = None) -> list[str]:
    offered = [one for one in registered() if Path(one).name == plugin.name or one == plugin.name]
    here = [] if registered_only else [plugin.file, plugin.name]
    if beside is not None and plugin.name.endswith(".py"):
        here.insert(0, str(beside / Path(plugin.name).name))
    places = [*here, *offered]
    return list(dict.fromkeys(place for place in places if place))


def registered() -> list[str]:
    """Files and entry points of the server's configuration."""
    text = os.environ.get(VARIABLE, "")
    return [part.strip() for part in text.split(os.pathsep) if part.strip()]


def registered_path() -> Path | None:
    """The folder of the package that the server's plug-ins import, where its settings name one."""
    text = os.environ.get(PATH_VARIABLE, "").strip()
    return Path(text) if text else None


def registered_sources() -> Iterator[Source]:
    """The sources of what the server's configuration offers.

    Raises:
        PluginError: there is no such thing.
    """
    path = registered_path()
    for reference in registered():
        yield read_source(reference, path)


def load_registered_rows() -> None:
    """Load what the server's configuration names and that adds primitives: they stand in graphs.

    A process that trains nothing needs no other plug-in, and those may import torch.

    Raises:
        PluginError: one of them cannot be loaded.
    """
    for source in registered_sources():
        if _adds_rows(source):
            load(source)


def rows_to_load(plugins: Iterable[Plugin]) -> list[Source]:
    """Of these plug-ins what adds primitives and is not loaded yet, as far as it is found here."""
    found = []
    for plugin in plugins:
        if plugin.sha256 not in _LOADED:
            with suppress(PluginError):
                found.append(find(plugin))
    return [source for source in found if _adds_rows(source)]


def _adds_rows(source: Source) -> bool:
    return any("primitive(" in text for text in (source.text, *(one for _, one in source.extra)))


def user_line(err: BaseException) -> str:
    """``file.py:12 in loss: code``, the user's own last line in the error's trace; else nothing."""
    if isinstance(err, SyntaxError) and err.filename in _files:
        return f"{Path(str(err.filename)).name}:{err.lineno}: {(err.text or '').strip()[:80]}"
    found = ""
    for frame in traceback.extract_tb(err.__traceback__):
        if frame.filename in _files:
            place = f" in {frame.name}" if frame.name != "<module>" else ""
            found = f"{Path(frame.filename).name}:{frame.lineno}{place}: {(frame.line or '')[:80]}"
    if not found and err.__cause__ is not None and err.__cause__ is not err:
        return user_line(err.__cause__)
    return found


def plugin_error(err: BaseException, what: str, source: Source | None = None) -> PluginError:
    """The error as one line that names the user's own line."""
    place = user_line(err) or (source.name if source is not None else None)
    return PluginError(what, where=place, got=f"{type(err).__name__}: {err}"[:300])


def all_loaded() -> list[Loaded]:
    """Every plug-in that this process has executed."""
    return [*_LOADED.values()]


def user_files() -> frozenset[str]:
    """Names of the files in which a user's line is looked for."""
    return frozenset(_files)
