"""The axes of the winner's curve."""

from __future__ import annotations

import numpy as np
import pytest

from api.reporting.winners_curve import _ticks


@pytest.mark.parametrize("width", [*np.linspace(0.01, 0.1, 37), 0.0123, 0.79, 0.8, 8.0, 99.0])
@pytest.mark.parametrize("low", [-0.37, 0.0, 0.642])
def test_an_axis_of_any_width_has_round_ticks_within_it(low: float, width: float) -> None:
    ticks = _ticks(low, low + width)
    assert 3 <= len(ticks) <= 7
    assert low <= ticks[0] <= ticks[-1] <= low + width
    assert np.ptp(np.diff(ticks)) < 1e-5
