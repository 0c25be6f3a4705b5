"""Tells people: a search finished, failed, stalled, first beat the baseline; the disk is filling.

Where alerts go is a setting of the server, never of a request. Sending has a thread of its own
and a time limit, so that a dead receiver holds nothing up.
"""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from evosearch import events as ev
from evosearch.errors import EvosearchError
from evosearch.gain import Gain, Samples, fresh_gains, samples_of
from evosearch.own import REGISTER
from evosearch.plugins import user_line
from evosearch.state import State

log = logging.getLogger("evosearch.alerts")
SEND_SECONDS = 10.0
DISK_BYTES = 500_000_000
"""Free room below which the disk counts as nearly full."""


STALLED_SECONDS = 1800.0
"""Silence of a search that no service runs."""


def together(*listeners: Callable[[State, ev.Event], None]) -> Callable[[State, ev.Event], None]:
    """One listener that tells all of these, in this order."""

    def hear(state: State, event: ev.Event) -> None:
        for one in listeners:
            one(state, event)

    return hear


class Alerts:
    """The alerts of one process; each kind once for each search (again after 6 hours).

    ``claim``: asked before a stall is told, with the search and the number of its last event;
    whether this process is the one to tell it. With it a stall is told once, whoever looks.
    ``disk_free``: free bytes on the fullest disk, and what lies there.
    """

    def __init__(
        self,
        webhook: str | None,
        command: str | None,
        stalled_seconds: float,
        *,
        disk_free: Callable[[], tuple[int, str] | None] = lambda: None,
        claim: Callable[[str, int], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._webhook, self._command = webhook, command
        self._stalled, self._disk_free, self._clock = stalled_seconds, disk_free, clock
        self._claim, self._claimed = claim, dict[str, int]()
        self._sent: dict[tuple[str, str], float] = {}
        self._news: dict[str, float] = {}
        self._disk_seen = float("-inf")
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(100)
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def listener(self, search_id: str, state: State) -> Callable[[State, ev.Event], None]:
        """Hears every event of a search that is run here, from this state on.

        A first win that lies before was told by whoever ran the search then.
        """
        self._news[search_id] = self._clock()
        samples = samples_of(state)
        if any(map(_won, fresh_gains(samples, state.config.confirmation.rivals).values())):
            self._sent.setdefault(("first_win", search_id), self._clock())

        def hear(state: State, event: ev.Event) -> None:
            self._news[search_id] = self._clock()
            if isinstance(event, ev.StatusChanged) and event.status in ("finished", "failed"):
                verdict = (state.report or {}).get("verdict", event.reason)
                self.tell(event.status, search_id, str(verdict))
            elif isinstance(event, ev.EvaluationRecorded):
                samples.take(event.subject, event.purpose, event.evaluation)
            elif isinstance(event, ev.JobFinished) and event.standing is not None:
                self._first_win(search_id, samples, state.config.confirmation.rivals, event)

        return hear

    def look(self, search_id: str, state: State) -> None:
        """What no event says: silence."""
        now = self._clock()
        silent = now - self._news.get(search_id, now)
        if state.status == "running" and silent >= self._stalled:
            self.stalled(search_id, state.seq, f"no event for {silent / 60:.0f} minutes")

    def look_at_disks(self) -> None:
        """Whether a disk fills; asked once a minute."""
        now = self._clock()
        if now - self._disk_seen >= 60.0:
            self._disk_seen = now
            found = self._disk_free()
            if found is not None and found[0] < DISK_BYTES:
                self.tell("disk_nearly_full", "", f"{found[0] / 1e6:.0f} MB are left: {found[1]}")

    def stalled(self, search_id: str, seq: int, text: str) -> None:
        """The search is silent since its event number ``seq``; told once, if others look too."""
        if self._claim is None:
            self.tell("stalled", search_id, text)
            return
        if self._unheard() or self._claimed.get(search_id) == seq:
            return
        try:
            mine = self._claim(search_id, seq)
        except EvosearchError as err:  # at the next look, or by another process
            log.warning("a stall cannot be told: %s", err)
            return
        self._claimed[search_id] = seq
        if mine:
            self._put("stalled", search_id, text)

    def failed(self, search_id: str, why: str) -> None:
        """The search cannot be run here."""
        self.tell("failed", search_id, why)

    def tell(self, kind: str, search_id: str, text: str) -> None:
        """Send one alert, unless the same was sent a short while ago."""
        if self._unheard():
            return
        now = self._clock()
        if now - self._sent.get((kind, search_id), float("-inf")) < 6 * 3600:
            return
        self._sent[kind, search_id] = now
        self._put(kind, search_id, text)

    def _unheard(self) -> bool:
        sinks = REGISTER.entries("alert_sink")
        return self._webhook is None and self._command is None and not sinks

    def _put(self, kind: str, search_id: str, text: str) -> None:
        try:
            self._queue.put_nowait({"alert": kind, "search": search_id, "text": text})
        except queue.Full:
            log.warning("an alert is dropped: too many wait")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what waits, and end."""
        self._queue.put(None)
        self._thread.join(SEND_SECONDS + 1.0)

    def _first_win(
        self, search_id: str, samples: Samples, rivals: Sequence[str], event: ev.JobFinished
    ) -> None:
        """Told once the interval of the gain on fresh seeds lies above 0."""
        birth = event.subject.birth
        if birth is None or ("first_win", search_id) in self._sent or self._unheard():
            return
        gain = fresh_gains(samples, rivals, (birth,)).get(birth)
        if gain is not None and _won(gain):
            low, high = 100 * (gain.low or 0), 100 * (gain.high or 0)
            text = (
                f"candidate {birth} leads the better baselines by {100 * gain.value:+.1f} points "
                f"on fresh seeds, interval {low:+.1f} to {high:+.1f}"
            )
            self.tell("first_win", search_id, text)

    def _work(self) -> None:
        while (alert := self._queue.get()) is not None:
            text = json.dumps(alert)
            for sink in REGISTER.entries("alert_sink"):
                try:
                    sink.value(dict(alert))
                except Exception as err:  # whatever a user's sink does wrong holds nothing up
                    place = user_line(err) or sink.where
                    log.warning("the alert sink %s failed at %s: %s", sink.name, place, err)
            if self._command is not None:
                self._run(text)
            if self._webhook is not None:
                self._post(text)

    def _run(self, text: str) -> None:
        assert self._command is not None
        try:
            subprocess.run([self._command], input=text.encode(), timeout=SEND_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as err:
            log.warning("the alert command failed: %s", err)

    def _post(self, text: str) -> None:
        import httpx

        try:
            headers = {"Content-Type": "application/json"}
            answer = httpx.post(
                str(self._webhook), content=text, headers=headers, timeout=SEND_SECONDS
            )
            answer.raise_for_status()
        except httpx.HTTPError as err:
            log.warning("the alert webhook failed: %s", type(err).__name__)


def _won(gain: Gain) -> bool:
    """Whether the interval lies above 0."""
    return gain.low is not None and gain.low > 0.0
