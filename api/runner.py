"""Runs one search in this process until it ends, is paused, or is interrupted.

It carries the controller's steps, shows them, and turns signals into a clean pause. What a search
does is decided in `evosearch`; this file must not write events of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from api.alerts import STALLED_SECONDS, Alerts, together
from api.lease import LEASE_SECONDS, Keeper, acquire_patiently, owner_name
from api.live import View, make_view
from api.progress import Meter
from api.report_text import print_report, say
from api.signals import Signals
from api.stop_rules import StopRules
from api.text import duration
from evosearch.controller import Controller
from evosearch.errors import LeaseHeld, PluginError, WorkerError
from evosearch.ports import Lease, Pause, Pool, Resume, Store, WorkerReport
from evosearch.records import Job, Message
from evosearch.state import State
from evosearch.trouble import FailureWatch

POLL_SECONDS = 0.5


def carry_on(
    store: Store,
    search_id: str,
    make_pool: Callable[[], Pool],
    console: Console,
    *,
    again: str,
    out: Path | None = None,
) -> int:
    """Run the search; prints the report and writes the leader when it is finished.

    ``again``: the command that goes on after a pause.

    Returns:
        0, or 128 + the signal's number after a pause by a signal.

    Raises:
        EvosearchError: the lease, the store or the workers refused.
    """
    lease = acquire_patiently(store, search_id, owner_name(), _countdown(console, search_id))
    with Signals() as signals, Keeper(store, lease) as keeper:
        store.send(search_id, Resume())
        pool = make_pool()
        signals.install()  # Ray has put a handler of its own in place
        try:
            with make_view(console) as view:
                state = drive(store, pool, lease, keeper, view, lambda: signals.caught is not None)
        finally:
            pool.close()
    return _close(state, search_id, console, signals, again=again, out=out)


class _NoWorkers:
    """A pool that wants no job, for a controller that only takes commands."""

    capacity, gpu_share = 0, 0.0

    def submit(self, job: Job) -> None:
        raise WorkerError("this pool takes no jobs", got=job.id)

    def poll(self, timeout: float) -> list[Message]:
        return []

    def cancel(self, job_id: str) -> None:
        pass

    def workers(self) -> list[WorkerReport]:
        return []

    def close(self) -> None:
        pass


def act_on_commands(store: Store, search_id: str) -> str | None:
    """Let the commands of a search that no process runs take effect; returns its new status.

    None: a process runs it, or did so seconds ago, and the commands wait for a controller.
    """
    try:
        lease = store.acquire(search_id, owner_name(), LEASE_SECONDS)
    except LeaseHeld:
        return None
    try:
        # Nothing is trained here, so changed code need not be found here.
        controller = Controller(store, _NoWorkers(), lease, load=lambda plugins: None)
        controller.step(0.0)
        return controller.state.status
    finally:
        store.release(lease)


def drive(
    store: Store, pool: Pool, lease: Lease, keeper: Keeper, view: View, caught: Callable[[], bool]
) -> State:
    """Step the search until it is over or paused; ``caught``: whether somebody asked for a pause.

    Raises:
        PluginError: it is paused, for it cannot come to anything.
    """
    trouble, name = FailureWatch(), lease.search_id
    with Alerts(None, None, STALLED_SECONDS) as alerts:  # a plug-in's sinks hear of it here, too
        controller = Controller(store, pool, lease, clock=time.perf_counter)
        controller.listen(together(alerts.listener(name, controller.state), trouble.hear))
        _steps(controller, keeper, view, lambda: caught() or trouble.reason is not None, alerts)
        if trouble.reason is not None:
            alerts.failed(name, trouble.reason)
    if trouble.reason is not None:
        raise PluginError(
            f"search {name} is paused, for it cannot come to anything: {trouble.reason}",
            hint="evosearch anchor check FILE.py:NAME says more",
        )
    return controller.state


def _steps(
    controller: Controller, keeper: Keeper, view: View, pausing: Callable[[], bool], alerts: Alerts
) -> None:
    store, name = controller.store, controller.lease.search_id
    meter = Meter(name, controller.state, time.monotonic)
    rules = StopRules.of(store, name, controller.pool.gpu_share)
    asked = False
    while True:  # a paused search is resumed by its first step
        if pausing() and not asked:
            store.send(name, Pause())
            asked = True
        controller.step(POLL_SECONDS)
        keeper.check()
        if controller.over or controller.state.status == "paused":
            break
        rules.end_phase(store, name, controller.state)
        alerts.look(name, controller.state)
        if view.due:
            view.show(meter.read(controller.state))
    view.show(meter.read(controller.state))


def _close(
    state: State,
    search_id: str,
    console: Console,
    signals: Signals,
    *,
    again: str,
    out: Path | None,
) -> int:
    if state.status == "paused":
        print(
            f"search {search_id} is paused, nothing is lost; go on with: {again}",
            file=sys.stderr,
        )
        return signals.exit_code
    print_report(console, state)
    if state.status == "finished":
        from api.export import write_leader

        path = write_leader(state, search_id, out)
        if path is not None:
            say(console, f"the leader as a PyTorch module: {path}")
    else:
        say(console, f"search {search_id} is {state.status}")
    return 0


def _countdown(console: Console, search_id: str) -> Callable[[float], None]:
    """Says once that another process holds the lease, then how long it can last."""
    started = False

    def waiting(seconds: float) -> None:
        nonlocal started
        if not started:
            say(
                console,
                f"search {search_id} was run by another process; if that is gone, its lease "
                f"expires within {duration(seconds)}",
            )
            started = True
        elif console.is_terminal:
            console.print(f"  waiting, {duration(seconds)} at most ", end="\r", highlight=False)

    return waiting
