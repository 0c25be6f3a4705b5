"""Loads code of a user's own: by file path or entry point, from its text, under its content hash.

A file is never found by the user's folder on ``sys.path``; it becomes a module of a name of its
own, so that folders called ``db`` or ``api`` beside it stay out. What travels to workers is text
and hash, and what runs there is what was hashed here. This file must not import torch.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from evosearch.config import Plugin
from evosearch.errors import EvosearchError, GraphError, PluginError
from evosearch.own import REGISTER, Entry, collecting

GROUP = "evosearch.plugins"
"""Entry points of installed packages whose import registers something."""
VARIABLE = "EVOSEARCH_PLUGINS"
"""Files and entry points that a server offers, separated as in PATH."""
MODULE_PREFIX = "evosearch_plugin_"
MAX_BYTES = 2_000_000
MAX_FILES = 400
TAKEN = ("api", "db", "evosearch", "primitives", "workers")


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a plug-in and of the user's package beside it.

    ``entry_point``: it is installed, and workers import it from their own installation.
    ``extra``: relative path -> text of the files below ``--plugin-path``; ``folder``: where these
    lie on this machine.
    """

    name: str
    file: str
    text: str
    extra: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    entry_point: bool = False

    @property
    def sha256(self) -> str:
        """Of everything that is executed, and not of where it lies."""
        found = hashlib.sha256(self.text.encode())
        for path, text in self.extra:
            found.update(b"\0" + path.encode() + b"\0" + text.encode())
        return found.hexdigest()

    @property
    def plugin(self) -> Plugin:
        """The plug-in as configs name it."""
        return Plugin(name=self.name, sha256=self.sha256, file=self.file, folder=self.folder)

    def to_json(self) -> dict[str, Any]:
        """What a worker is sent."""
        return {
            "name": self.name, "file": self.file, "text": self.text,
            "extra": [list(pair) for pair in self.extra], "entry_point": self.entry_point,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """The source that `to_json` said; the user's folder is none of the worker's."""
        extra = tuple((str(path), str(text)) for path, text in data["extra"])
        return cls(data["name"], data["file"], data["text"], extra, "", bool(data["entry_point"]))


@dataclass(slots=True)
class Loaded:
    """A plug-in that was executed in this process, and what it registered."""

    source: Source
    module: types.ModuleType
    entries: list[Entry] = field(default_factory=list)

    @property
    def plugin(self) -> Plugin:
        """The plug-in as configs name it."""
        return self.source.plugin


_LOADED: dict[str, Loaded] = {}
_files: set[str] = set()
"""Names of files, as frames have them, in which a user's line is looked for."""


def read_source(reference: str, plugin_path: Path | None = None) -> Source:
    """The source of a file, or of an installed package's entry point.

    Raises:
        PluginError: there is no such thing, or it is too large to travel.
    """
    extra = _folder_files(plugin_path) if plugin_path is not None else ()
    folder = str(plugin_path.resolve()) if plugin_path is not None else ""
    if reference.endswith(".py"):
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
        return Source(path.name, str(path.resolve()), text, extra, folder)
    return _entry_source(reference, extra, folder)


def _entry_source(reference: str, extra: tuple[tuple[str, str], ...], folder: str) -> Source:
    points = {one.name: one for one in entry_points(group=GROUP)}
    if reference not in points:
        raise PluginError(
            "unknown plug-in", got=repr(reference)[:80],
            expected="a file that ends in .py" + (f", or {', '.join(points)}" if points else ""),
        )  # fmt: skip
    module = points[reference].module
    import importlib.util

    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise PluginError(f"the entry point {reference} has no file", got=module)
    text = Path(spec.origin).read_text(encoding="utf-8")
    return Source(reference, spec.origin, text, extra, folder, entry_point=True)


def _folder_files(folder: Path) -> tuple[tuple[str, str], ...]:
    """Python files below the folder, in order, without hidden folders and environments."""
    if not folder.is_dir():
        raise PluginError("--plugin-path is no folder", got=str(folder))
    found, size = [], 0
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or part in ("__pycache__", "site-packages") for part in parts):
            continue
        if parts[0].removesuffix(".py") in TAKEN:
            continue  # these names are this package's own, and would never be imported
        text = path.read_text(encoding="utf-8", errors="replace")
        found.append(("/".join(parts), text))
        size += len(text)
        if size > MAX_BYTES or len(found) > MAX_FILES:
            raise PluginError(
                "--plugin-path holds too much to send to workers", got=str(folder),
                expected=f"at most {MAX_FILES} files and {MAX_BYTES} bytes of Python",
                hint="name the folder of the package that the plug-in imports",
            )  # fmt: skip
    return tuple(found)


def load(source: Source) -> Loaded:
    """Execute the plug-in, once a process for each content, and keep what it registers.

    Raises:
        PluginError: it fails; ``where`` is the user's line.
    """
    known = _LOADED.get(source.sha256)
    if known is None:
        known = _LOADED[source.sha256] = _execute(source)
        for entry in known.entries:
            if entry.kind == "primitive":
                _add_row(entry)
    REGISTER.replace(known.entries)
    return known


def _add_row(entry: Entry) -> None:
    from primitives.extension import add_row

    try:
        add_row(entry.value)
    except GraphError as err:
        raise PluginError(str(err), where=entry.where) from err


def _execute(source: Source) -> Loaded:
    stem = Path(source.name).stem.replace("-", "_").replace(".", "_")
    name = f"{MODULE_PREFIX}{stem}_{source.sha256[:8]}"
    _files.add(source.file)
    if source.extra:
        _offer_folder(source)
    with collecting() as register:
        if source.entry_point:
            module = _import_entry(source)
        else:
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
            except Exception as err:  # whatever a user's file does wrong when it is loaded
                raise plugin_error(err, f"{source.name} cannot be loaded", source) from err
    entries = register.entries()
    if not entries:
        raise PluginError(
            "it registers nothing", where=source.name,
            expected="a call of es.anchor, es.evaluator, es.dataset, es.objective, es.check, "
            "es.primitive or es.alert_sink",
        )  # fmt: skip
    return Loaded(source, module, entries)


def _import_entry(source: Source) -> types.ModuleType:
    import importlib

    (point,) = (one for one in entry_points(group=GROUP) if one.name == source.name)
    sys.modules.pop(point.module, None)  # what it registered before is registered here again
    try:
        return importlib.import_module(point.module)
    except PluginError:
        raise
    except Exception as err:  # whatever an installed plug-in does wrong when it is imported
        raise plugin_error(err, f"the plug-in {source.name} cannot be loaded", source) from err


def _offer_folder(source: Source) -> None:
    """Make the user's package importable, behind everything else."""
    folder = source.folder
    if not folder:  # a worker: the files came as text
        folder = tempfile.mkdtemp(prefix="evosearch-plugin-")
        for relative, text in source.extra:
            path = Path(folder, relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for relative, _ in source.extra:
        _files.add(str(Path(folder, relative)))
        top = relative.partition("/")[0].removesuffix(".py")
        for name in [one for one in sys.modules if one.partition(".")[0] == top]:
            origin = str(getattr(sys.modules[name], "__file__", "") or "")
            if "evosearch-plugin-" in origin or origin.startswith(folder):
                del sys.modules[name]  # an older version of the user's package
    if folder not in sys.path:
        sys.path.append(folder)


def adopt(module_name: str) -> Loaded | None:
    """What a script, an imported module or a notebook registered itself, as a plug-in.

    None: it registered nothing. A notebook has no file; its text is what its entries' own source
    says, as far as that can be found.
    """
    entries = [one for one in REGISTER.entries() if one.module == module_name]
    module = sys.modules.get(module_name)
    if not entries or module is None:
        return None
    file = getattr(module, "__file__", None)
    if file is not None and Path(file).is_file():
        source = Source(Path(file).name, str(Path(file).resolve()), Path(file).read_text("utf-8"))
    else:
        source = Source("notebook", "", _text_of(entries))
    _files.update(code_files(entries))
    made = Loaded(source, module, entries)
    _LOADED[source.sha256] = made
    return made


def code_files(entries: Iterable[Entry]) -> set[str]:
    """File names, as frames have them, of the entries' functions and classes."""
    found: set[str] = set()
    for entry in entries:
        for value in (entry.value, getattr(entry.value, "made_by", None)):
            parts = [value, *(vars(value).values() if isinstance(value, type) else ())]
            for part in parts:
                code = getattr(part, "__code__", None)
                if code is not None:
                    found.add(code.co_filename)
    return found


def _text_of(entries: Iterable[Entry]) -> str:
    import inspect

    texts = []
    for entry in entries:
        value = getattr(entry.value, "made_by", entry.value)
        try:
            texts.append(inspect.getsource(value))
        except (OSError, TypeError):
            texts.append(f"{entry.kind} {entry.name}")
    return "\n".join(texts)


def receive(data: Mapping[str, Any], sources: dict[str, Source]) -> None:
    """On a worker: keep a source that came with a job; what has no file came as bytes of Ray's."""
    source = Source.from_json(data)
    sources[source.sha256] = source
    if "pickled" in data:
        import pickle

        entries = pickle.loads(data["pickled"])
        _files.update(code_files(entries))
        _LOADED[source.sha256] = Loaded(source, types.ModuleType("notebook"), entries)


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
    for plugin in plugins:
        known = _LOADED.get(plugin.sha256)
        if known is not None:
            REGISTER.replace(known.entries)
            continue
        source = (sources or {}).get(plugin.sha256)
        load(source if source is not None else find(plugin, registered_only=registered_only))


def find(plugin: Plugin, *, registered_only: bool = False) -> Source:
    """The source of a plug-in that a config names, unchanged since then.

    Looked for where it was, in the folder at hand, and among the files of `VARIABLE`, or among
    these alone.

    Raises:
        PluginError: it is gone, or has changed.
    """
    seen = None
    places = _places(plugin, registered_only)
    folder = Path(plugin.folder) if plugin.folder and not registered_only else None
    for place in places:
        try:
            source = read_source(place, folder)
        except EvosearchError:
            continue
        if not plugin.sha256 or source.sha256 == plugin.sha256:
            return source
        seen = source
    if seen is not None:
        raise PluginError(
            f"the plug-in {plugin.name} has changed since the search was made", where=seen.file,
            expected=f"sha256 {plugin.sha256[:12]}", got=seen.sha256[:12],
            hint="bring the old text back, or start a search of its own with the new one",
        )  # fmt: skip
    raise PluginError(
        f"the plug-in {plugin.name} is not here", expected=f"sha256 {plugin.sha256[:12]}",
        got=f"nothing in {', '.join(places) or 'no place'}",
        hint=f"name its path in {VARIABLE}",
    )  # fmt: skip


def _places(plugin: Plugin, registered_only: bool) -> list[str]:
    offered = [one for one in registered() if Path(one).name == plugin.name or one == plugin.name]
    here = [] if registered_only else [plugin.file, plugin.name]
    places = [*here, *offered]
    return list(dict.fromkeys(place for place in places if place))


def registered() -> list[str]:
    """Files and entry points of the server's configuration."""
    text = os.environ.get(VARIABLE, "")
    return [part.strip() for part in text.split(os.pathsep) if part.strip()]


def load_registered_rows() -> None:
    """Load what the server's configuration names and that adds primitives: they stand in graphs.

    A process that trains nothing needs no other plug-in, and those may import torch.

    Raises:
        PluginError: one of them cannot be loaded.
    """
    for reference in registered():
        source = read_source(reference)
        if "primitive(" in source.text:
            load(source)


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
