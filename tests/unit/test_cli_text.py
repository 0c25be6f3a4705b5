"""What the command line prints and how it waits, without a search, a database or a terminal."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from rich.console import Console

from api.cli import run
from api.lease import Keeper, acquire_patiently
from api.live import LineView, picture, progress_line
from api.progress import FunnelRow, Meter, Progress, ScoreRow
from api.report_text import audit_line, print_final
from api.run_view import html_of
from api.signals import Signals
from api.tables import score_table
from api.text import cost, count, duration, interval, score
from api.wiring import ID_LETTERS, new_id, sqlite_path
from db.memory import MemoryStore
from evosearch.errors import LeaseHeld, LeaseLost
from evosearch.events import Created
from evosearch.ports import Lease
from evosearch.presets import load_preset
from evosearch.state import State

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")


def printed(what: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def scores(*values: float) -> dict[str, tuple[float, ...]]:
    return {anchor: tuple(value + 0.01 * i for value in values) for i, anchor in enumerate(ANCHORS)}


def a_progress(**changes: object) -> Progress:
    facts: dict[str, object] = {
        "search_id": "abcd2345",
        "preset": "quickstart",
        "status": "running",
        "phase": "search",
        "anchors": ANCHORS,
        "evaluated": 24,
        "target": 80,
        "proposals": 13_400,
        "proposals_per_second": 950.4,
        "evaluations_per_hour": 720.0,
        "elapsed": 120.0,
        "seconds_left": 245.0,
        "pending": 3,
        "hypervolume": 0.0123,
        "funnel": (
            FunnelRow("ignores_input", 9_000, 0.21),
            FunnelRow("signal", 310, 5.1, 700),
            FunnelRow("quality", 12, 61.0, 40),
        ),
        "front": (
            ScoreRow("17", "x / max(std_batch(x), v1 * x)", scores(0.8, 0.7), True),
            ScoreRow("23", " + ".join(["tanh(x * sigmoid(v1))"] * 9), scores(0.6)),
        ),
        "baselines": (ScoreRow("bn-relu", "", scores(0.79)),),
        "failures": {"died": 2},
        "notes": (),
    }
    return Progress(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.2, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers() -> None:
    assert score(0.8034) == "0.803"
    assert score(0.8034, provisional=True) == "~0.803"
    assert score(None) == "-"
    assert count(13_400.4) == "13,400"
    assert count(None) == "?"
    assert cost(0.01234) == "0.0123 s"
    assert cost(200) == "3 min 20 s"
    assert interval({"value": -0.0121, "low": -0.03, "high": 0.002}) == "-0.012 [-0.030, +0.002]"


def test_a_score_of_one_seed_is_marked_and_one_of_more_is_not() -> None:
    progress = a_progress()
    text = printed(score_table(progress.front, progress.baselines, ANCHORS))
    by_birth = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "0.750" in by_birth["17*"]
    assert "~" not in by_birth["17*"]
    assert "~0.600" in by_birth["23"]
    assert "~0.790" in by_birth["bn-relu"]
    assert "provisional: one seed" in text


def test_the_picture_fits_80_columns_and_says_what_matters() -> None:
    text = printed(picture(a_progress()))
    assert max(len(line) for line in text.splitlines()) <= 80
    for fact in ("24 of 80", "950/s", "720/h", "died 2", "ignores_input", "9,000", "5.1 s", "61 s",
                 "about 4 min 5 s left", "bn-relu"):  # fmt: skip
        assert fact in text


def test_a_picture_of_a_long_front_fits_a_small_terminal() -> None:
    rows = tuple(ScoreRow(str(birth), "tanh(x)", scores(0.5)) for birth in range(40))
    text = printed(picture(a_progress(front=rows), height=24))
    assert len(text.splitlines()) <= 24
    assert "front, first 7" in text


def test_a_picture_without_any_result_is_drawn() -> None:
    empty = a_progress(
        evaluated=0, proposals=0, proposals_per_second=None, evaluations_per_hour=None,
        seconds_left=None, funnel=(), front=(), baselines=(), failures={},
    )  # fmt: skip
    assert "0 of 80" in printed(picture(empty))
    assert progress_line(empty).endswith("; ? left")


def test_no_more_is_evaluated_than_was_wanted() -> None:
    """Candidates that were under way when the hours were over are evaluated, too."""
    state = State(Created(config=load_preset("quickstart")))
    for evaluated, text in ((57, "57 of 57 evaluated"), (50, "50 of 54 evaluated")):
        state.target, state.evaluated = 54, evaluated
        assert text in progress_line(Meter("abcd2345", state, lambda: 0.0).read(state))
        assert text in html_of("abcd2345", state)


def test_formulas_with_brackets_are_no_markup() -> None:
    row = ScoreRow("1", "[red]x[/red]", scores(0.5, 0.5))
    assert "[red]x[/red]" in printed(score_table([row], [], ANCHORS))


def test_plain_lines_come_at_once_and_then_rarely() -> None:
    console = Console(file=io.StringIO(), width=80)
    with LineView(console) as view:
        view.show(a_progress())
        view.show(a_progress(evaluated=25))
        view.show(a_progress(evaluated=80, phase="confirm"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(",")[0] for line in lines] == ["searching", "confirming: fresh seeds"]
    assert "24 of 80" in lines[0]


def test_the_final_report_prints_every_number_it_has() -> None:
    wide = {"value": 0.012, "low": -0.003, "high": 0.027}
    row = {"anchor": "resnet", "leader": 0.811, "bn-relu": 0.799, "bn-silu": 0.802,
           "better_rival": "bn-silu", "difference": wide}  # fmt: skip
    report = {
        "leader": {
            "birth": 17, "formula": "x / rms_batch(x)", "known_as": "relu-rms-batch",
            "confirmed": {"resnet": 0.8}, "confirmed_seeds": 3,
        },
        "notes": ["fewer seeds"],
        "verdict": "not better: the interval of the mean difference holds 0",
        "final": {
            "seeds": 10, "images": 697, "level": 0.95, "layers_judged": 3, "anchors": [row],
            "mean_difference": wide, "mean_difference_to": {"bn-relu": wide, "bn-silu": wide},
            "rates": {"c17": {"resnet": 0.4}, "bn-relu": {"resnet": 0.1}},
        },
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=80, color_system=None)
    print_final(console, report)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for fact in ("0.811", "0.799", "0.802", "+0.012 [-0.003, +0.027]", "10 seeds", "697 images",
                 "leader 0.4, bn-relu 0.1", "no discovery", "3 fresh seeds", "note: fewer seeds",
                 "3 layers were judged", "verdict: not better"):  # fmt: skip
        assert fact in text


def test_ids_are_short_and_have_no_confusing_letters() -> None:
    ids = {new_id() for _ in range(200)}
    assert len(ids) == 200
    assert set("".join(ids)) <= set(ID_LETTERS)
    assert not set(ID_LETTERS) & set("ilo01-")
    assert {len(one) for one in ids} == {8}


def test_which_urls_are_files() -> None:
    assert str(sqlite_path("sqlite:///runs/a.db")) == "runs/a.db"
    assert str(sqlite_path("sqlite:////data/a.db")) == "/data/a.db"
    assert str(sqlite_path("a.db")) == "a.db"
    assert sqlite_path("postgresql://host/name") is None
    assert sqlite_path("memory:") is None


@pytest.mark.parametrize(
    "arguments",
    [["layr"], ["search", "start"], ["search", "start", "quickstart", "--seeed", "1"],
     ["search", "start", "quickstart", "--pool", "none"], ["layer", "x +"], ["export"],
     ["eval", "x", "--seeds", "0"]],
)  # fmt: skip
def test_usage_errors_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert text.err.startswith("evosearch: ")
    assert text.err.count("\n") == 1


def test_help_and_version_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert run(["--version"]) == 0
    assert "search" in capsys.readouterr().out
    assert run([]) == 2


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Holding:
    """A store whose lease is another's for so many seconds of a fake clock."""

    def __init__(self, clock: FakeTime, until: float) -> None:
        self.clock, self.until = clock, until

    def acquire(self, search_id: str, owner: str, seconds: float) -> Lease:
        if self.clock() < self.until:
            raise LeaseHeld("held", got="elsewhere:1:ab")
        return Lease(search_id, owner, 2)


def test_the_lease_of_a_killed_controller_is_waited_for() -> None:
    clock, heard = FakeTime(), []
    store = Holding(clock, until=12.0)
    lease = acquire_patiently(
        store, "abcd", "me", heard.append, clock=clock, sleep=clock.sleep  # type: ignore[arg-type]
    )  # fmt: skip
    assert lease.epoch == 2
    assert heard == sorted(heard, reverse=True)
    assert len(heard) == 12


def test_a_lease_that_is_renewed_again_and_again_is_refused() -> None:
    clock = FakeTime()
    store = Holding(clock, until=float("inf"))
    with pytest.raises(LeaseHeld, match=r"is alive; got elsewhere:1:ab; .*pause abcd"):
        acquire_patiently(
            store, "abcd", "me", lambda left: None, clock=clock, sleep=clock.sleep  # type: ignore[arg-type]
        )  # fmt: skip
    assert clock.now < 20


def a_store() -> tuple[MemoryStore, Lease]:
    store = MemoryStore()
    store.create("abcd", "a search", Created(config=load_preset("quickstart")))
    return store, store.acquire("abcd", "me", 1.5)


def test_the_keeper_renews_the_lease_and_gives_it_back() -> None:
    store, lease = a_store()
    with Keeper(store, lease, seconds=1.5, every=0.1) as keeper:
        time.sleep(2.0)
        keeper.check()
        with pytest.raises(LeaseHeld):
            store.acquire("abcd", "another", 1.0)
    assert store.acquire("abcd", "another", 1.0).owner == "another"


def test_the_keeper_tells_that_the_lease_is_lost() -> None:
    store, lease = a_store()
    store.release(lease)
    other = store.acquire("abcd", "another", 60.0)
    with Keeper(store, lease, seconds=0.4, every=0.02) as keeper:
        time.sleep(0.3)
        with pytest.raises(LeaseLost):
            keeper.check()
    store.renew(other, 1.0)


def test_a_signal_asks_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert signals.caught == signal.SIGTERM
        assert signals.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_check_that_is_often_wrong_is_told_with_a_way_out() -> None:
    state = State(Created(config=load_preset("quickstart")))
    assert "unknown, 0 of its rejections audited" in audit_line(state)
    state.audit.audited, state.audit.wrongly_rejected, state.audit.passed_quality = 28, 11, 354
    assert "11 of 28 audited rejections were wrong" in audit_line(state)
    assert "It is often wrong here: a search with checks.signal.learn=true" in audit_line(state)
    state.audit.wrongly_rejected = 2
    assert "often wrong" not in audit_line(state)
