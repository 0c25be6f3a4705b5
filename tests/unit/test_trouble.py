"""When a search's failures are no longer those of single layers."""

from __future__ import annotations

from evosearch import events as ev
from evosearch.records import Failure, Rejection, Subject
from evosearch.trouble import FAILURES, LOST, FailureWatch
from tests.support.events import evaluated, standing


def test_failures_with_nothing_evaluated_in_between_are_seen_and_single_ones_are_not():
    failed = ev.CandidateFailed(birth=1, failure=Failure(cause="error", detail="my.py:3: no"))
    fine = evaluated(2, standing((0.5, 0.5, 0.5)))
    rejected = ev.CandidateRejected(birth=3, rejection=Rejection(code="signal"))
    watch = FailureWatch()
    for _ in range(5):
        for event in (*[failed] * (FAILURES - 1), fine):
            watch.hear(None, event)
    assert watch.reason is None
    for _ in range(FAILURES):
        watch.hear(None, rejected)  # it says nothing about what runs after the checks
        assert watch.reason is None
        watch.hear(None, failed)
    assert "my.py:3" in watch.reason
    for cause in ("hung", "died"):
        lost = failed.model_copy(update={"failure": Failure(cause=cause, detail="silence")})
        other = FailureWatch()
        for event in (*[lost] * (LOST - 1), fine, *[lost] * (LOST - 1), rejected):
            other.hear(None, event)
        assert other.reason is None
        other.hear(None, lost)
        assert str(other.reason).endswith(f"the last one with {cause}: silence")
        baseline = ev.JobFinished(
            id="b", subject=Subject(baseline="bn-relu"), purpose="baseline",
            failure=Failure(cause=cause, detail="silence"),
        )  # fmt: skip
        first = FailureWatch()
        first.hear(None, baseline)
        assert first.reason == f"the baseline bn-relu failed: {cause}: silence"
    short = failed.model_copy(update={"failure": Failure(cause="out_of_memory")})
    large = FailureWatch()
    for _ in range(2 * FAILURES):
        large.hear(None, short)
    assert large.reason is None
    large.hear(None, baseline.model_copy(update={"failure": Failure(cause="out_of_memory")}))
    assert large.reason == "the baseline bn-relu failed: out_of_memory: "  # no layer fits
