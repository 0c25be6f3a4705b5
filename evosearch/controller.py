"""The loop of a search: commands in, proposals out, outcomes written down.

Everything that is decided is decided by pure functions of the state; this file only carries
events between them, the store and the pool. Events are stored before the pool hears of them, so a
killed controller has lost nothing but work in flight.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from evosearch import events as ev
from evosearch.config import Plugin
from evosearch.confirm import advance
from evosearch.observe import observe
from evosearch.plugins import ensure
from evosearch.ports import Enqueue, Lease, Pool, Remeasure, Snapshot, Store, StoredCommand
from evosearch.propose import Proposer, no_clock, remeasurement
from evosearch.records import Message
from evosearch.screen import Clock
from evosearch.snapshot import dump_state, reopen, worth_saving
from evosearch.state import State
from evosearch.steering import plain_events
from evosearch.surrogate import in_line, outranked, turn
from primitives.named import layer_graph

Listener = Callable[[State, ev.Event], None]


class Controller:
    """One search, carried from its last stored event to its end.

    Ids of jobs are unique within a search alone: where several controllers share workers, each has
    a view of the pool that keeps them apart.
    ``slice_seconds``: after so long, by the clock, a step leaves off proposing and the next one
    goes on with it; what is proposed does not depend on it. ``saves``: whether steps write
    snapshots; else whoever steps calls `save` when it is due, which takes long in a large search.
    ``load``: puts plug-ins in force whose code has changed since the search was opened.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        lease: Lease,
        *,
        clock: Clock = no_clock,
        listener: Listener | None = None,
        slice_seconds: float = math.inf,
        saves: bool = True,
        load: Callable[[Iterable[Plugin]], None] = ensure,
    ) -> None:
        self.store, self.pool, self.lease = store, pool, lease
        self.state: State
        self.state, self._saved = reopen(store, lease.search_id)
        self.proposer = Proposer(self.state, clock)
        self._listener = listener
        self._submitted: set[str] = set()
        self._inbox: deque[Message] = deque()
        self._exhausted = False
        self._clock, self._slice, self._saves, self._load = clock, slice_seconds, saves, load
        self.filled = True
        """Whether the last step has proposed all that the pool wants to hold."""

    @property
    def hungry(self) -> bool:
        """Whether the search has more for workers to do than it has given to the pool."""
        if self.state.status != "running":
            return False
        births = self._next_to_train()
        if births is None:
            return len(self.state.pending) > len(self._submitted) or self._wants_more()
        unsent = len(self.state.pending) - len(in_line(self.state, self._submitted))
        return bool(births) or unsent > len(self._submitted)

    def listen(self, listener: Listener) -> None:
        """Have this one hear the events from now on, in place of another."""
        self._listener = listener

    def take_up(self, pool: Pool, lease: Lease) -> None:
        """Go on under another lease with the state at hand, after what was written meanwhile.

        Raises:
            StateConflict: the log contradicts the state.
            PluginError: the search's code has changed, and the new one is not here.
        """
        self.pool, self.lease = pool, lease
        self.catch_up()

    def catch_up(self) -> None:
        """Fold the events that others have written under this lease, or before it.

        Raises:
            StateConflict: the log contradicts the state.
            PluginError: the search's code has changed, and the new one is not here.
        """
        changed = False
        for entry in self.store.events(self.lease.search_id, after=self.state.seq):
            self.state.follow(entry)
            changed = changed or isinstance(entry.event, ev.CodeChanged)
        if changed:
            self.code_changed()

    def code_changed(self) -> None:
        """Propose and check with the code that the state names by now, and give the jobs anew.

        Raises:
            PluginError: that code is not here, or fails.
        """
        self.let_go()
        self._load(self.state.config.task.plugins)
        self.proposer = Proposer(self.state, self._clock)

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
            PluginError: a command changes the search's code, and the new one is not here.
        """
        self._take_in()
        self._start()  # before commands: by their births the first candidates are told apart
        for entry in self.store.commands(self.lease):
            self._act(entry)
        if self.state.status != "running":
            return
        self._commit(outranked(self.state, self._submitted))
        self._commit(advance(self.state, self._exhausted))
        self.filled = self._fill(self._clock() + self._slice)
        if not self.filled:
            return  # outcomes wait, so that what is proposed does not depend on the clock
        self._inbox += self.pool.poll(poll_seconds)
        self._take_in()
        if self._saves and self.save_due:
            self.save()

    def _take_in(self) -> None:
        """Write down what the workers sent; what the store refuses stays for the next step."""
        while self._inbox:
            message = self._inbox[0]
            self._commit(observe(self.state, message))
            self._inbox.popleft()
            if message.job_id not in self.state.pending:
                self._submitted.discard(message.job_id)
            elif message.kind == "job_done":
                self._submitted.discard(message.job_id)  # lost: it will be submitted again

    @property
    def save_due(self) -> bool:
        """Whether a snapshot should be written."""
        return worth_saving(self.state, self._saved)

    def save(self) -> None:
        """Write a snapshot; nothing may change the state meanwhile.

        Raises:
            StoreError: the store refused.
        """
        snapshot = Snapshot(self.state.seq, dump_state(self.state))
        self._saved = snapshot.seq
        self.store.save(self.lease, snapshot)

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
        return tuple(remeasurement(self.state, member, index, asked=True) for index in range(seeds))

    def let_go(self) -> None:
        """Take back from the pool what this controller has submitted."""
        for job_id in self._submitted:
            self.pool.cancel(job_id)
        self._submitted.clear()
        self._inbox.clear()

    def _fill(self, until: float) -> bool:
        """Hand jobs to the pool; returns whether that was done when the clock showed ``until``."""
        # What was submitted is pending: with equal counts there is nothing to look for.
        if len(self.state.pending) > len(self._submitted):
            asleep = {f"c{birth}" for birth in in_line(self.state)}
            for job_id in list(self.state.pending):
                if len(self._submitted) >= self.pool.capacity:
                    return True
                if job_id not in asleep:
                    self._submit(job_id)
        while len(self._submitted) < self.pool.capacity:
            if (births := self._next_to_train()) is not None:
                if not births:
                    return True
                self._submit(f"c{turn(self.state, births)}")
                continue
            if not self._wants_more():
                return True
            events = self.proposer.seek(self.state, until, self.pool.capacity)
            if events is None:
                return False
            if not events:
                self._exhausted = True
                continue
            self._commit(events)
            last = events[-1]
            if isinstance(last, ev.JobQueued):
                self._submit(last.id)
            elif isinstance(last, ev.CandidateQueued):
                self._submit(f"c{last.birth}")
        return True

    def _next_to_train(self) -> list[int] | None:
        """Births of which one is to be trained before anything is proposed; None: propose first.

        None of them, as long as all that may wait are at their signal check.
        """
        state = self.state
        if not state.config.surrogate.enabled or state.phase != "search":
            return None
        births = in_line(state, self._submitted)
        if state.evaluated >= state.target:
            return []
        if self._exhausted:
            return births
        checked = sum(state.pending[one].signal_only for one in self._submitted)
        full = len(births) + checked >= state.config.surrogate.waiting
        return births if full else None

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
        command = entry.command
        events = plain_events(command, self.state.status, self.state.phase)
        match command:
            case Enqueue(graph=graph, note=note) if events is None:
                events = self.proposer.enqueue(self.state, graph, note)
            case Remeasure(birth=birth, seeds=seeds) if events is None:
                events = self._fresh_seeds(birth, seeds)
        events = events or ()
        self._commit(events, (entry.id,))
        if self.state.status in ("paused", "stopped"):
            self.let_go()
        if any(isinstance(event, ev.CodeChanged) for event in events):
            self.code_changed()
