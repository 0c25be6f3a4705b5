"""Puts the rooms together: which database, which pool, which search a word means.

Everything heavy is imported inside the functions, so that a wrong option costs no second. This
file must not print.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evosearch.errors import ConfigError, FormulaError, NotFound, StoreError

if TYPE_CHECKING:
    from api.settings import ServiceSettings
    from db.sql_store import SqlStore
    from evosearch.config import SearchConfig
    from evosearch.ports import Enqueue, Pool, SearchInfo, Store
    from evosearch.state import State
    from primitives.graph import Graph
    from workers.ray_pool import RayPool

DEFAULT_DATABASE = "sqlite:///evosearch.db"
DATABASE_VARIABLE = "EVOSEARCH_DB"
CACHE_VARIABLE = "EVOSEARCH_CACHE"
ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Letters of ids: none that looks like another (no i, l, o, 0, 1)."""

BIRTH_DIGITS = 18
"""Most digits of a birth: a database's integers hold no more."""

PATIENCE = 60.0
"""Seconds that whoever runs a search waits for a database server that restarts."""

PoolName = Literal["ray", "inline"]


def database_url(given: str | None) -> str:
    """The database that is meant: the option, the environment's, or a file in this folder."""
    return given or os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE


def open_database(given: str | None, *, create: bool = False, patience: float = 0.0) -> Store:
    """The store of that URL; one that does not exist is made only if ``create``.

    ``patience``: seconds to wait for a database server that goes away meanwhile.

    Raises:
        StoreError: it does not exist, or the database refuses.
    """
    url = database_url(given)
    path = sqlite_path(url)
    if path is not None and not create and not path.exists():
        raise StoreError(
            f"there is no database {path}",
            hint="`evosearch search start quickstart` makes one; --db URL names another",
        )
    from db import open_store

    return open_store(url, patience)


@contextmanager
def sql_database(given: str | None, *, create: bool = False) -> Iterator[SqlStore]:
    """The database of the option or the environment, closed at the end.

    Raises:
        StoreError: there is none, it refuses, or it is none that keeps anything.
    """
    from db.sql_store import SqlStore

    store = open_database(given, create=create)
    try:
        if not isinstance(store, SqlStore):
            raise StoreError("this store keeps nothing", expected="a database", got="memory:")
        yield store
    finally:
        store.close()


def front_layers(store: Store, ref: str) -> list[Enqueue]:
    """The front of a search, the best layer first, as layers that a person enqueued.

    So another search can begin with them: each passes that one's own checks, and is trained by its
    task. They are read as any page reads them, without the search's state.

    Raises:
        NotFound: there is no such search, or it has no front.
        GraphError: a layer holds a primitive of a plug-in that is not here.
    """
    from db.queries import Queries
    from db.queries_rest import RestQueries
    from db.sql_store import SqlStore
    from evosearch.ports import Enqueue
    from primitives.graph import Graph

    info = store.search(ref)
    rows = Queries(store).front(info.id) if isinstance(store, SqlStore) else []
    if not isinstance(store, SqlStore) or not rows:
        raise NotFound(f"search {info.id} has no front", hint="no candidate has been evaluated")
    known = RestQueries(store).relatives(info.id, [row.birth for row in rows])
    return [
        Enqueue(graph=Graph.from_json(json.loads(known[row.birth]["graph"])),
                note=f"front of {info.id}: {row.birth}")
        for row in rows
        if row.birth in known  # the first thousand
    ]  # fmt: skip


def sqlite_path(url: str) -> Path | None:
    """The file that an SQLite URL or a plain path names; None for any other database."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///"))
    return None if "://" in url or url == "memory:" else Path(url)


def new_id() -> str:
    """A random id of eight letters."""
    return "".join(secrets.choice(ID_LETTERS) for _ in range(8))


def make_pool(
    name: str,
    workers: int | None,
    address: str | None = None,
    hang_seconds: float | None = None,
) -> Pool:
    """A pool of that kind; ``workers`` None: one for each CPU, or several a GPU.

    What is None is taken from the settings' variables: ``address``, an existing Ray cluster, from
    ``EVOSEARCH_RAY_ADDRESS``, and likewise `RayPool`'s other settings.
    With ``EVOSEARCH_CACHE`` set to a folder, evaluations are kept there and found again.

    Raises:
        ConfigError: a setting is wrong.
        WorkerError: the workers cannot be started.
    """
    from api.settings import load_settings

    if name == "inline":
        if address is not None:
            raise ConfigError(
                "the inline pool knows no cluster", got=f"--ray-address {address}",
                hint="use --pool ray",
            )  # fmt: skip
        if workers not in (None, 1):
            raise ConfigError(
                "the inline pool has one worker", got=f"--workers {workers}",
                hint="use --pool ray for more",
            )  # fmt: skip
        from workers.evaluate import Context
        from workers.inline import InlinePool

        return with_cache(InlinePool(Context(checkpoints=checkpoint_folder(load_settings()))))
    given = {"workers": workers, "ray_address": address, "hang_seconds": hang_seconds}
    return with_cache(ray_pool(load_settings(given)))


def ray_pool(settings: ServiceSettings) -> RayPool:
    """The Ray workers of the settings.

    Raises:
        ConfigError: the folder of checkpoints cannot be made.
        WorkerError: the workers cannot be started.
    """
    from workers.ray_pool import RayPool

    folder = checkpoint_folder(settings)
    memory = settings.worker_memory
    return RayPool(
        settings.workers,
        address=settings.ray_address,
        hang_seconds=settings.hang_seconds,
        gpu_share=settings.gpus_per_worker,
        gpu_memory_share=settings.gpu_memory_share,
        memory_limit=None if memory is None else memory * 2**20,
        checkpoints=None if folder is None else str(folder),
        nice=settings.worker_nice,
    )


def checkpoint_folder(settings: ServiceSettings) -> Path | None:
    """The settings' folder of checkpoints, made where it is not there.

    Raises:
        ConfigError: it cannot be made.
    """
    if settings.checkpoints is None:
        return None
    try:
        settings.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError("cannot make the folder of checkpoints", got=str(err)) from err
    return settings.checkpoints.resolve()


def with_cache(pool: Pool) -> Pool:
    """The pool, behind the cache of evaluations where ``EVOSEARCH_CACHE`` names a folder."""
    folder = os.environ.get(CACHE_VARIABLE)
    if not folder:
        return pool
    from workers.cache import CachedPool, EvaluationCache

    device = getattr(pool, "device_kind", "cpu")
    return CachedPool(pool, EvaluationCache(Path(folder), device))


def check_names(config: SearchConfig) -> None:
    """Refuse a config whose anchors, data set or baselines nobody knows, before it is stored.

    Raises:
        NotFound: a name names nothing.
        ConfigError: a constraint or a template cannot be judged.
        FormulaError: a layer to start from is neither a formula nor a known one.
    """
    from evosearch.own import ORIGINAL
    from evosearch.screen import Screen
    from evosearch.template_space import drawer
    from primitives.catalog import CATALOG
    from primitives.named import layer_graph
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS
    from workers.layers import TORCH_BASELINES

    for anchor in config.task.anchors:
        ANCHORS.get(anchor.name).check_forbids(anchor)
    DATASETS.get(config.task.dataset)
    for name in (*config.baselines, *config.confirmation.rivals):
        if name not in CATALOG and name not in (*TORCH_BASELINES, ORIGINAL):
            known = dict.fromkeys((*CATALOG, *TORCH_BASELINES))
            raise NotFound(
                "unknown baseline", expected="one of " + ", ".join(known), got=repr(name)
            )
    Screen(config)  # refuses a constraint or a check that nobody can judge
    drawer(config.space)  # likewise a template that is none
    for place, formula in enumerate(config.space.start_from):
        try:
            layer_graph(formula)
        except FormulaError as err:
            near = get_close_matches(formula.strip().lower().replace("_", "-"), CATALOG, 3)
            raise FormulaError(
                f"no formula and no known layer: {err.what}",
                expected=err.expected,
                got=err.got,
                where=f"space.start_from[{place}], {err.where}",
                hint=f"known layers of such names: {', '.join(near)}"
                if near
                else "see them all: evosearch catalog",
            ) from err


def refuse_unrepeatable(config: SearchConfig, pool: object) -> None:
    """Refuse for the inline pool an objective that would not repeat, before anything is stored.

    Raises:
        ConfigError: the search has one.
    """
    from workers.measures import refuse_timed

    if pool == "inline":
        refuse_timed(config.task)


def versions() -> dict[str, str]:
    """Versions of what computes and decides: Python, evosearch itself, and who does it for them."""
    packages = ("evosearch", "torch", "numpy", "ray", "scikit-learn")
    return {"python": platform.python_version()} | {
        name: package_version(name) for name in packages
    }


def package_version(package: str) -> str:
    """The installed version; ``unknown`` where code runs without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def load_state(store: Store, search_id: str) -> State:
    """The search's state: its snapshot, if it has one, and the events since.

    Raises:
        PluginError: its graphs hold primitives of a plug-in that is not here.
    """
    from evosearch.snapshot import reopen

    ensure_primitives(store.search(search_id).config)
    return reopen(store, search_id)[0]


def ensure_primitives(config: SearchConfig) -> None:
    """Have the plug-ins loaded whose primitives the search's graphs may hold.

    Where the search draws none, layers to start from and enqueued ones may still hold some.

    Raises:
        PluginError: one is not here, and its primitives are drawn; or one fails.
    """
    from evosearch.plugins import ensure, load, rows_to_load

    if config.space.primitives:
        ensure(config.task.plugins)
        return
    for source in rows_to_load(config.task.plugins):
        load(source)


def unfinished_twin(store: Store, config: SearchConfig) -> SearchInfo | None:
    """The newest search of the very same config that can go on, if there is one."""
    for info in store.searches():
        if info.status in ("running", "paused") and info.config == config:
            return info
    return None


def candidate_graph(store: Store, ref: str) -> tuple[str, int, Graph]:
    """Search id, birth and graph of a candidate: ``SEARCH-BIRTH``, or ``SEARCH`` for its leader.

    Raises:
        NotFound: there is no such search or candidate.
        PluginError: its graphs hold primitives of a plug-in that is not here.
    """
    from evosearch.confirm import leader

    search_ref, dash, birth_text = ref.rpartition("-")
    if not dash:
        info = store.search(ref)
        state = load_state(store, info.id)
        best = leader(state)
        if best is None:
            raise NotFound(
                f"search {info.id} has no leader yet", hint="no candidate has been evaluated"
            )
        return info.id, best, state.members[best].graph
    if not (search_ref and birth_text.isascii() and birth_text.isdigit()):
        raise NotFound(
            "not a candidate", expected="SEARCH-BIRTH, for instance abcd2345-17", got=repr(ref)
        )
    info = store.search(search_ref)
    ensure_primitives(info.config)
    graph = _graph_of(store, info.id, int(birth_text)) if len(birth_text) <= BIRTH_DIGITS else None
    if graph is None:
        raise NotFound(
            f"search {info.id} has no candidate {birth_text}",
            hint=f"see: evosearch search front {info.id}",
        )
    return info.id, int(birth_text), graph


def _graph_of(store: Store, search_id: str, birth: int) -> Graph | None:
    """The graph of that birth: one row of a database; memory looks through its events."""
    from db.queries_rest import RestQueries
    from db.sql_store import SqlStore
    from primitives.graph import Graph

    if isinstance(store, SqlStore):
        text = RestQueries(store).graph_text(search_id, birth)
        return None if text is None else Graph.from_json_text(text)
    for entry in store.events(search_id):
        event = entry.event
        if getattr(event, "birth", None) == birth and hasattr(event, "graph"):
            graph: Graph = event.graph
            return graph
    return None
