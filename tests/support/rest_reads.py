"""The reads that REST makes of a search, by the very functions that its routes call."""

from __future__ import annotations

from collections.abc import Callable

from api.rest.figures import MAX_FRONT, ON_FRONT
from db.candidate_pages import SORTS, CandidatePages, Wanted
from db.queries import Queries
from db.queries_rest import RestQueries
from db.sql_store import SqlStore
from evosearch.where import parse_where

NOBODYS = "no formula holds this"
PAGE = 50


class Reads:
    """The read models of one store, as a web process keeps them."""

    def __init__(self, store: SqlStore, search_id: str) -> None:
        self.id = search_id
        self.queries, self.rest, self.pages = (
            Queries(store),
            RestQueries(store),
            CandidatePages(store),
        )

    def page(self, wanted: Wanted, cursor: str | None = None) -> str | None:
        """One page; returns the cursor of the next."""
        return self.pages.page(self.id, wanted, PAGE, cursor)[1]

    def page_after(self, wanted: Wanted) -> Callable[[], object]:
        """Reads the page behind the first one."""
        following = self.page(wanted)
        return lambda: self.page(wanted, following)


def lists(reads: Reads, anchor: str) -> dict[str, Callable[[], object]]:
    """Pages of candidates in every order and by every kind of filter."""
    found: dict[str, Callable[[], object]] = {}
    for sort in (*SORTS, f"score.{anchor}"):
        for way, down in (("falling", True), ("rising", False)):
            wanted = Wanted(sort=sort, descending=down)
            found[f"by {sort}, {way}"] = lambda wanted=wanted: reads.page(wanted)  # type: ignore[misc]
            found[f"by {sort}, {way}, second page"] = reads.page_after(wanted)
    filters = {
        "evaluated by gain_low": Wanted(states=("evaluated",), sort="gain_low"),
        "rejected": Wanted(states=("rejected",)),
        "two states": Wanted(states=("evaluated", "rejected")),
        "failed by seconds": Wanted(states=("failed",), sort="seconds"),
        "text that nothing holds": Wanted(text=NOBODYS),
        "text that nothing holds, by gain_low": Wanted(text=NOBODYS, sort="gain_low"),
        "a code": Wanted(states=("rejected",), stages=("signal.loss",)),
        "a code that nothing has": Wanted(stages=("none",)),
        "a least score": Wanted(scores=((anchor, 0.99),), sort=f"score.{anchor}"),
        "a fact": Wanted(where=parse_where("scale_invariant and live_nodes > 99")),
        "a gain": Wanted(where=parse_where("gain_low > 9"), sort="gain"),
        "a step time": Wanted(where=parse_where("step_time > 99"), sort="step_time"),
        "the front by gain_low": Wanted(where=parse_where("on_front"), sort="gain_low"),
        "births by seconds": Wanted(where=parse_where("birth in (1, 2, 3)"), sort="seconds"),
    }
    for name, wanted in filters.items():
        found[name] = lambda wanted=wanted: reads.page(wanted)  # type: ignore[misc]
    return found


def figures(reads: Reads, population: int) -> dict[str, Callable[[], object]]:
    """Front, funnel and population, as their routes put them together."""

    def front() -> object:
        wanted = Wanted(where=ON_FRONT, sort="mean_score")
        return reads.pages.page(reads.id, wanted, MAX_FRONT)

    def funnel() -> object:
        return (reads.queries.funnel(reads.id), reads.rest.audit(reads.id),
                reads.queries.states(reads.id))  # fmt: skip

    def summary() -> object:
        members = reads.rest.members(reads.id, population, 500)
        return reads.queries.population(reads.id, population), members

    return {"/front": front, "/funnel": funnel, "/population": summary}
