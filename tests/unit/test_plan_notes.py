"""What is told of a config beforehand: settings that do not count, and layers that are refused."""

from __future__ import annotations

import pytest

from api.wiring import check_names
from evosearch.errors import FormulaError
from evosearch.plan_notes import plan_notes, refused_starts, unused_settings
from evosearch.presets import load_preset, preset_names


def test_no_preset_sets_what_does_not_count() -> None:
    for name in preset_names():
        assert plan_notes(load_preset(name)) == []


@pytest.mark.parametrize(
    ("overrides", "setting"),
    [
        (("evolution.challenge_front=true", "evolution.challenge_top=0"), "challenge_front"),
        (("evolution.choose_of=1",), "evolution.experience"),
        (("evolution.same_start=0",), "evolution.alike"),
        (("evolution.operators={paper=1.0}", "evolution.sure_edits=true"), "sure_edits"),
        (("checks.hurdles.steps=[40, 100]",), "checks.hurdles.steps 100 do not count"),
        (("space.template=x * f(x)",), "evolution.operators do not count"),
    ],
)
def test_what_does_not_count_is_told(overrides: tuple[str, ...], setting: str) -> None:
    (told,) = unused_settings(load_preset("quickstart", overrides))
    assert setting in told
    assert "not count" in told


def test_layers_to_start_from_are_judged_beforehand() -> None:
    more = 'space.start_from=["bn-relu", "zero * v0", "max(zero, x / rms_batch(x))", "x * x"]'
    told = refused_starts(load_preset("quickstart", (more, 'space.where="live_nodes <= 4"')))
    assert [one.split(", ")[0] for one in told] == [
        "space.start_from[0] will be refused: constraint",
        "space.start_from[1] will be refused: ignores_input",
    ]


def test_a_layer_that_nobody_knows_is_told_with_its_place_and_the_nearest_names() -> None:
    config = load_preset("quickstart", ('space.start_from=["bn-relu", "evonorm_b0"]',))
    with pytest.raises(FormulaError, match=r"space.start_from\[1\].*evonorm-b0, evonorm-s0"):
        check_names(config)
    config = load_preset("quickstart", ('space.start_from=["%"]',))
    with pytest.raises(FormulaError, match="see them all: evosearch catalog"):
        check_names(config)
