"""Prints what a search found: its final report, or where it stands before the end.

Every number is read from the state and its report; nothing is computed anew here.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from api.progress import baseline_rows, front_rows, funnel
from api.tables import final_table, funnel_table, score_table, yield_table
from api.text import count, goal_of
from evosearch.odds import calibration as odds_calibration
from evosearch.report import audited_rate
from evosearch.state import State
from evosearch.stats import Interval
from evosearch.surrogate import calibration, discard_rate

OFTEN_WRONG = 0.1
"""Share of what would pass quality; where the whole interval is above it, a way out is named."""


def say(console: Console, line: str, style: str = "") -> None:
    """Print a line as it is: no markup, no highlighting, not folded."""
    console.print(Text(line), style=style or None, soft_wrap=True)


def print_report(console: Console, state: State) -> None:
    """The whole report: funnel, front, leader, final, verdict."""
    console.print(funnel_table(funnel(state)))
    print_front(console, state)
    say(
        console,
        f"{count(state.next_birth)} proposals, {state.evaluated} evaluated on all anchors, "
        f"{state.duplicates} functional duplicates never trained, "
        f"{state.remeasured} re-measured, hypervolume {state.hypervolume:.4g}",
    )
    say(console, audit_line(state))
    if state.config.surrogate.enabled:
        say(console, surrogate_line(state))
    if state.config.evolution.choose_of > 1:
        say(console, odds_line(state))
    for cause, number in sorted(state.failures.items()):
        say(console, f"failures: {number} x {cause}")
    if state.report is None:
        say(console, f"no final report: the search is {state.status} in the phase {state.phase}")
        return
    print_yields(console, state.report)
    print_final(console, state.report)


def print_yields(console: Console, report: dict[str, Any]) -> None:
    """What random graphs and each operator contributed; reports of older searches have none."""
    rows = report.get("operators") or {}
    if len(rows) > 1:
        console.print(yield_table(rows))


def print_front(console: Console, state: State) -> None:
    """The front beside the baselines of the same run."""
    anchors = state.config.anchor_names
    goals = {name: goal for name, (goal, _) in state.config.coordinates.items()}
    console.print(score_table(front_rows(state), baseline_rows(state), anchors, goals=goals))


def print_final(console: Console, report: dict[str, Any]) -> None:
    """Leader, table of ``final``, verdict and notes."""
    leader = report.get("leader")
    if "final" in report:
        console.print(final_table(report["final"]))
        say(console, rates_line(report["final"]["rates"]))
    if leader is not None:
        say(console, f"leader: candidate {leader['birth']}", "bold")
        say(console, f"  {leader['formula']}")
        seeds = leader["confirmed_seeds"]
        if seeds:
            goals = report.get("objectives", {})
            means = " / ".join(
                goal_of(goals.get(anchor)).text(value)
                for anchor, value in leader["confirmed"].items()
            )
            say(console, f"  confirmed on select with {seeds} fresh seeds: {means}")
        known = leader["known_as"]
        if known:
            say(console, f"  equals {known} of the catalog in function: no discovery")
    for note in report["notes"]:
        say(console, f"note: {note}")
    say(console, f"verdict: {report['verdict']}", "bold")


def surrogate_line(state: State) -> str:
    """How far the surrogate could be trusted, by what was trained all the same."""
    found = calibration(state)
    correlation = found["correlation"]
    told = "nothing yet" if correlation is None else f"rank correlation {correlation:.2f}"
    return (
        f"surrogate: {told} of promise and outcome, {found['foretold']} foretold; "
        f"{found['discarded']} candidates discarded, of {found['audited']} such that were trained "
        f"all the same {found['useful']} were better than half of the population"
        + (f", {rate_text(rate)} of all such" if (rate := discard_rate(state)) else "")
    )


def rate_text(rate: Interval) -> str:
    """A share in per cent with its 95 % interval."""
    return f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def odds_line(state: State) -> str:
    """How far the odds could be trusted, by what became of candidates."""
    found = odds_calibration(state)
    chosen, lot, correlation = found["chosen"], found["by_lot"], found["correlation"]
    told = (
        "" if correlation is None else f"; rank correlation {correlation:.2f} of odds and outcome"
    )
    return (
        f"odds: of the latest {chosen['decided']} chosen candidates {chosen['through']} came "
        f"through all checks, of {lot['decided']} tried by lot {lot['through']}{told}"
    )


def rates_line(rates: dict[str, dict[str, float]]) -> str:
    """The learning rate that was best on ``select`` for each layer and anchor."""
    parts = [
        f"{'leader' if key[1:].isdigit() else key} "
        + " / ".join(f"{rate:g}" for rate in by_anchor.values())
        for key, by_anchor in rates.items()
    ]
    return "learning rates, each its own best on select: " + ", ".join(parts)


def audit_line(state: State) -> str:
    """The signal check's audited false-rejection rate with its interval."""
    rate, audited = audited_rate(state), state.audit.audited
    if rate is None:
        return f"false rejections by the signal check: unknown, {audited} of its rejections audited"
    told = (
        f"false rejections by the signal check: {rate_text(rate)} of what would pass quality "
        f"(95 %), {state.audit.wrongly_rejected} of {audited} audited rejections were wrong"
    )
    if state.config.checks.hurdles.steps:
        told += (
            "; rather less, for what a hurdle stopped before its last network is not counted as "
            "good"
        )
    if rate.low > OFTEN_WRONG:
        told += (
            ". It is often wrong here: a search with checks.signal.learn=true has bounds of its "
            "own, one with checks.signal.enabled=false does without"
        )
    return told
