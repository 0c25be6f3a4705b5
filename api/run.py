"""A search from Python: no server, one object; what happens in it is the controller's as always.

The search is in a database from its first moment, so `evosearch serve` shows it while it runs, and
a kill loses nothing. Ctrl-C pauses; nothing here writes events of its own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from api.code_change import Assent, resumed, unfinished
from api.extending import extended, set_budget
from api.lease import Keeper, acquire_patiently, owner_name
from api.own_config import complete, own_config
from api.run_view import Candidate, html_of, run_text
from api.signals import Signals
from api.wiring import (
    check_names,
    load_state,
    make_pool,
    new_id,
    open_database,
    refuse_unrepeatable,
    versions,
)
from evosearch.config import Budget, SearchConfig
from evosearch.confirm import leader, ranked
from evosearch.errors import ConfigError, NotFound, PluginError, StateConflict
from evosearch.events import Created, StoredEvent
from evosearch.own import is_loading
from evosearch.ports import Enqueue, Pause, Pool, Resume, SearchInfo, Stop, Store
from evosearch.presets import repeatable

if TYPE_CHECKING:
    from api.charts.charts import Charts
    from evosearch.state import State

MakePool = Callable[[], Pool]


class _Interrupts(Signals):
    """Ctrl-C asks for a pause, and a pool that computes here is told at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = number
        interrupt = getattr(self.pool, "interrupt", None)
        if interrupt is not None:
            interrupt()


class Run:
    """A search that this process may carry on; the database holds everything it knows.

    ``id``: as `evosearch search show ID` takes it. ``status``: running, paused, finished, stopped.
    """

    def __init__(self, store: Store, search_id: str, make_pool: MakePool, show: bool) -> None:
        self._store, self.id, self._make_pool, self._show = store, search_id, make_pool, show
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._state: State | None = None
        self._pool: Pool | None = None
        self._charts: Charts | None = None
        self._waiting: list[tuple[str, str]] = []

    # -- what is known ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Everything that is known, folded from the search's events."""
        if self._state is not None and self._thread is None:
            return self._state
        return load_state(self._store, self.id)

    @property
    def info(self) -> SearchInfo:
        """Its row in the database: title, config, status, times."""
        return self._store.search(self.id)

    @property
    def charts(self) -> Charts:
        """What the dashboard's charts show of it.

        Raises:
            ConfigError: the search is in memory alone.
        """
        from api.charts.charts import Charts
        from db.sql_store import SqlStore

        if self._charts is None:
            if not isinstance(self._store, SqlStore):
                raise ConfigError("no charts of a search in memory", hint="give db=a path or URL")
            self._charts = Charts(self._store)
        return self._charts

    @property
    def config(self) -> SearchConfig:
        """What reproduces the search."""
        return self._store.search(self.id).config

    @property
    def status(self) -> str:
        """What the search is doing."""
        return self._store.search(self.id).status

    @property
    def leader(self) -> Candidate:
        """The candidate that the search would recommend now.

        Raises:
            NotFound: none has been evaluated.
        """
        state = self.state
        best = leader(state)
        if best is None:
            raise NotFound(
                f"search {self.id} has no leader yet", hint="run.table() says what was rejected"
            )
        return Candidate(state, best)

    @property
    def front(self) -> list[Candidate]:
        """The Pareto front, the highest mean score first."""
        state = self.state
        return [Candidate(state, one) for one in ranked(state) if one in state.front.members]

    def candidate(self, birth: int) -> Candidate:
        """An evaluated candidate by its number.

        Raises:
            NotFound: it is none.
        """
        state = self.state
        if birth not in state.members or not state.members[birth].evaluated:
            raise NotFound(f"search {self.id} has no evaluated candidate {birth}")
        return Candidate(state, birth)

    @property
    def report(self) -> dict[str, Any] | None:
        """The final report; None before the search has finished."""
        return self.state.report

    @property
    def verdict(self) -> str:
        """What the final report says; what the search is doing, before it."""
        report = self.report
        return str(report["verdict"]) if report is not None else f"{self.status}, no report yet"

    def events(self) -> Iterator[StoredEvent]:
        """Everything that has happened, in order."""
        return self._store.events(self.id)

    def table(self) -> str:
        """Front and baselines as text; prints as it is."""
        return run_text(self.state)

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.status}, {self.state.evaluated} evaluated>"

    def _repr_html_(self) -> str:
        return html_of(self.id, self.state)

    # -- steering --------------------------------------------------------------------------------

    def enqueue(self, formula: str, note: str = "") -> None:
        """Have a layer of yours evaluated before the next proposal.

        After the search's end it waits here for `extend`, and comes first then.

        Raises:
            FormulaError: it is no layer.
        """
        from primitives.named import layer_graph

        graph = layer_graph(formula)
        if self.status not in ("running", "paused"):
            self._waiting.append((formula, note))
            return
        self._store.send(self.id, Enqueue(graph=graph, note=note))

    def extend(
        self, evaluations: int = 0, enqueue: Iterable[str] = (), **further: float | None
    ) -> Run:
        """Go on for so many further evaluations; blocks as `es.search` did.

        A finished search is not touched: a copy of it as it was before its confirmation goes on,
        and this object is that copy from then on.
        ``further``: ``hours``, ``gpu_hours``, ``train_steps`` on top of these limits.

        Raises:
            ConfigError: nothing is asked for, or the search has no such limit.
        """
        self._let_end()
        self.id = extended(self._store, self.id, evaluations, further)
        self._state = None
        for formula, note in (*self._waiting, *((one, "") for one in enqueue)):
            self.enqueue(formula, note)
        self._waiting.clear()
        return self.resume()

    def set_budget(self, **limits: float | None) -> None:
        """Change limits of `Budget`, each in all; None clears one. What is not named stays.

        Raises:
            ConfigError: a name or value is wrong.
            StateConflict: the search is past its search phase.
        """
        set_budget(self._store, self.id, limits)
        self._state = None

    def pause(self) -> None:
        """Ask for a pause; nothing is lost, `resume` goes on."""
        self._store.send(self.id, Pause())
        interrupt = getattr(self._pool, "interrupt", None)
        if interrupt is not None and self._thread is not None:
            interrupt()
        self.wait()

    def stop(self) -> None:
        """End the search for good, without its confirmation."""
        self._store.send(self.id, Stop())
        self.wait()
        if self.status in ("running", "paused"):
            from api.runner import act_on_commands

            act_on_commands(self._store, self.id)
        self._state = None

    def resume(self, accept_changed_code: bool = False) -> Run:
        """Carry the search on, until it ends or is paused; blocks.

        Raises:
            PluginError: the user's own code fails, or has changed and that is not accepted.
            EvosearchError: lease, store or workers refused.
        """
        self._let_end()
        resumed(self._store, self.info, _assent(accept_changed_code))
        self._go()
        return self

    def start(self, accept_changed_code: bool = False) -> Run:
        """Carry the search on in a thread of its own; `wait` blocks until it ends or is paused."""
        self._let_end()
        resumed(self._store, self.info, _assent(accept_changed_code))
        self._thread = threading.Thread(target=self._background, name="evosearch", daemon=True)
        self._thread.start()
        return self

    def wait(self, seconds: float | None = None) -> Run:
        """Block until a search in the background ends or is paused, or so long.

        Raises:
            EvosearchError: what ended it.
        """
        thread = self._thread
        if thread is None:
            return self
        thread.join(seconds)
        if not thread.is_alive():
            self._thread = None
            if self._error is not None:
                error, self._error = self._error, None
                raise error
        return self

    def close(self) -> None:
        """Pause what runs in the background, and let go of the database."""
        if self._thread is not None:
            self.pause()
        self._store.close()

    # -- running ---------------------------------------------------------------------------------

    def _let_end(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise StateConflict(f"search {self.id} runs in the background", hint="run.pause()")
        self._thread = None

    def _background(self) -> None:
        try:
            self._go()
        except BaseException as err:  # handed to whoever waits
            self._error = err

    def _go(self) -> None:
        from api.runner import drive

        self._state = None
        lease = acquire_patiently(self._store, self.id, owner_name(), lambda seconds: None)
        in_main = threading.current_thread() is threading.main_thread()
        signals = _Interrupts() if in_main else None
        with signals or nullcontext(), Keeper(self._store, lease) as keeper:
            self._store.send(self.id, Resume())
            pool = self._pool = self._make_pool()
            if signals is not None:
                signals.pool = pool
                signals.install()  # Ray has put a handler of its own in place
            try:
                with self._view() as view:
                    self._state = drive(
                        self._store, pool, lease, keeper, view,
                        lambda: signals is not None and signals.caught is not None,
                    )  # fmt: skip
            finally:
                self._pool = None
                pool.close()
        if signals is not None and signals.caught == signal.SIGTERM:
            raise SystemExit(signals.exit_code)

    def _view(self) -> Any:
        from api.run_view import make_run_view

        return make_run_view(self._show)


def search(
    anchors: Iterable[Any] | str,
    *,
    preset: str | None = None,
    where: str = "",
    template: str = "",
    start_from: Iterable[str] = (),
    budget: Budget | int | None = None,
    baselines: Iterable[str] | None = None,
    objectives: Iterable[str] = (),
    checks: Iterable[str] = (),
    plugins: Iterable[str] = (),
    seed: int = 0,
    pool: str | MakePool = "ray",
    workers: int | None = None,
    address: str | None = None,
    hang_seconds: float | None = None,
    db: str | None = None,
    plugin_path: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    confirm: bool = True,
    new: bool = False,
    accept_changed_code: bool = False,
    background: bool = False,
    show: bool = True,
) -> Run:
    """Evolve layers for these anchors; the same call goes on with an unfinished search.

    ``anchors``: names of built-in or registered ones, ``"file.py:Name"``, or what `es.anchor` and
    `es.evaluator` decorated. ``settings``: dotted keys of the config, such as ``task.steps``.
    ``objectives``, ``checks``: names, or ``"file.py:name"``. ``plugins``: further files and entry
    points, such as those of alert sinks.
    ``pool``: ray, inline, or a function that makes a pool. ``address``: of a Ray cluster.
    ``hang_seconds``: how long a job may stand still before its worker is replaced.
    ``accept_changed_code``: go on with an unfinished search though its plug-ins' code has changed;
    the log and the report say so. ``background``: return at once.

    Raises:
        PluginError: the user's code fails, or has changed and that is not accepted; the error names
            the line.
        ConfigError, NotFound: something named is wrong.
    """
    if is_loading():
        raise PluginError(
            "es.search was called while the file was loaded as a plug-in",
            hint='put the call under: if __name__ == "__main__":',
        )
    listed = [anchors] if isinstance(anchors, str) else list(anchors)
    given = {"seed": seed, "space.where": where, "space.template": template,
             "space.start_from": list(start_from), "space.checks": list(checks),
             "confirmation.enabled": confirm, **_budget(budget), **(settings or {})}  # fmt: skip
    config = own_config(
        listed, preset=preset, settings=given, baselines=baselines, checks=checks,
        objectives=objectives, plugin_path=Path(plugin_path) if plugin_path else None,
        plugins=plugins,
    )  # fmt: skip
    if pool == "inline" and preset:
        config = repeatable(config, preset, given)
    config = complete(config)
    check_names(config)
    refuse_unrepeatable(config, pool)
    store = open_database(db, create=True)
    make = _pool_maker(pool, workers, address, hang_seconds)
    run = Run(store, _begun(store, config, new, _assent(accept_changed_code)), make, show)
    return run.start() if background else run.resume()


def _assent(given: bool) -> Assent:
    return Assent(given, "accept_changed_code=True")


def _budget(budget: Budget | int | None) -> dict[str, Any]:
    if budget is None:
        return {}
    if isinstance(budget, int):
        return {"budget.evaluations": budget}
    return {f"budget.{name}": value for name, value in budget.model_dump().items()
            if value is not None}  # fmt: skip


def _pool_maker(
    pool: str | MakePool, workers: int | None, address: str | None, hang_seconds: float | None
) -> MakePool:
    if callable(pool):
        return pool
    if pool not in ("ray", "inline"):
        raise ConfigError("unknown pool", expected="ray or inline", got=repr(pool)[:40])
    return lambda: make_pool(pool, workers, address, hang_seconds)


def _begun(store: Store, config: SearchConfig, new: bool, assent: Assent) -> str:
    """The id of the unfinished search of this config, or of a new one.

    Raises:
        PluginError: it differs in nothing but the content of its plug-ins, without assent.
    """
    known = None if new else unfinished(store, config, assent)
    if known is not None:
        return known.id
    title = f"{', '.join(config.anchor_names)}, seed {config.seed}"
    created = Created(config=config, versions=versions())
    return store.create(new_id(), title[:200], created).id
