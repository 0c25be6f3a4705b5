"""The loop of a search: commands in, proposals out, outcomes written down.

Everything that is decided is decided by pure functions of the state; this file only carries
events between them, the store and the pool. Events are stored before the pool hears of them, so a
killed controller has lost nothing but work in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evosearch import events as ev
from evosearch.confirm import advance
from evosearch.observe import observe
from evosearch.ports import (
    Enqueue,
    Extend,
    Lease,
    Pause,
    Pool,
    Remeasure,
    Resume,
    Snapshot,
    Stop,
    Store,
    StoredCommand,
)
from evosearch.propose import Proposer, no_clock, remeasurement
from evosearch.screen import Clock
from evosearch.snapshot import dump_state, reopen, worth_saving
from evosearch.state import State
from primitives.named import layer_graph

Listener = Callable[[State, ev.Event], None]


class Controller:
    """One search, carried from its last stored event to its end.

    The pool may be shared by several controllers; job ids are then told apart by ``prefix``.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        lease: Lease,
        *,
        clock: Clock = no_clock,
        listener: Listener | None = None,
    ) -> None:
        self.store, self.pool, self.lease = store, pool, lease
        self.state: State
        self.state, self._saved = reopen(store, lease.search_id)
        self.proposer = Proposer(self.state, clock)
        self._listener = listener
        self._submitted: set[str] = set()
        self._exhausted = False

    @property
    def over(self) -> bool:
        """Whether the search has ended for good."""
        return self.state.status in ev.ENDED

    def run(self, poll_seconds: float = 0.5) -> State:
        """Step until the search ends or is paused; returns the state."""
        while not self.over and self.state.status != "paused":
            self.step(poll_seconds)
        return self.state

    def step(self, poll_seconds: float = 0.5) -> None:
        """Act on commands, fill the pool, and take in what the workers sent.

        Raises:
            StoreError: the store refused; nothing was submitted that is not stored.
        """
        for entry in self.store.commands(self.lease):
            self._act(entry)
        if self.state.status != "running":
            return
        self._start()
        self._commit(advance(self.state, self._exhausted))
        self._fill()
        for message in self.pool.poll(poll_seconds):
            self._commit(observe(self.state, message))
            if message.job_id not in self.state.pending:
                self._submitted.discard(message.job_id)
            elif message.kind == "job_done":
                self._submitted.discard(message.job_id)  # lost: it will be submitted again
        if worth_saving(self.state, self._saved):
            self._saved = self.state.seq
            self.store.save(self.lease, Snapshot(self._saved, dump_state(self.state)))

    def _start(self) -> None:
        """The layers that the search starts from are its first births."""
        first = self.state.config.space.start_from
        while self.state.phase == "search" and self.state.next_birth < len(first):
            text = first[self.state.next_birth]
            self._commit(self.proposer.enqueue(self.state, layer_graph(text), f"from: {text}"))

    def _fresh_seeds(self, birth: int, seeds: int) -> tuple[ev.Event, ...]:
        member = self.state.members.get(birth)
        if member is None or not member.evaluated:
            return ()
        return tuple(remeasurement(self.state, member, index) for index in range(seeds))

    def let_go(self) -> None:
        """Take back from the pool what this controller has submitted."""
        for job_id in self._submitted:
            self.pool.cancel(job_id)
        self._submitted.clear()

    def _fill(self) -> None:
        # What was submitted is pending: with equal counts there is nothing to look for.
        if len(self.state.pending) > len(self._submitted):
            for job_id in list(self.state.pending):
                if len(self._submitted) >= self.pool.capacity:
                    return
                self._submit(job_id)
        while len(self._submitted) < self.pool.capacity and self._wants_more():
            events = self.proposer.propose(self.state)
            if not events:
                self._exhausted = True
                return
            self._commit(events)
            last = events[-1]
            self._submit(
                last.id if isinstance(last, ev.JobQueued) else f"c{self.state.next_birth - 1}"
            )

    def _wants_more(self) -> bool:
        state = self.state
        return state.phase == "search" and state.evaluated < state.target and not self._exhausted

    def _submit(self, job_id: str) -> None:
        if job_id not in self._submitted:
            self._submitted.add(job_id)
            self.pool.submit(self.state.pending[job_id])

    def _commit(self, events: Sequence[ev.Event], done: Sequence[int] = ()) -> None:
        if not events and not done:
            return
        self.store.append(self.lease, events, done)
        for event in events:
            self.state.apply(event)
            if self._listener is not None:
                self._listener(self.state, event)

    def _act(self, entry: StoredCommand) -> None:
        """Turn one command into events; a command that no longer applies is only marked done."""
        events: tuple[ev.Event, ...] = ()
        status, command = self.state.status, entry.command
        match command:
            case Pause() if status == "running":
                events = (ev.StatusChanged(status="paused", reason="asked to"),)
            case Resume() if status == "paused":
                events = (ev.StatusChanged(status="running", reason="asked to"),)
            case Stop() if status in ("running", "paused"):
                events = (ev.StatusChanged(status="stopped", reason="asked to"),)
            case Enqueue(graph=graph, note=note) if self.state.phase == "search":
                events = self.proposer.enqueue(self.state, graph, note)
            case Extend(evaluations=evaluations, reason=reason) if self.state.phase == "search":
                events = (ev.BudgetChanged(evaluations=evaluations, reason=reason),)
            case Remeasure(birth=birth, seeds=seeds) if self.state.phase == "search":
                events = self._fresh_seeds(birth, seeds)
            case _:
                pass
        self._commit(events, (entry.id,))
        if self.state.status in ("paused", "stopped"):
            self.let_go()
