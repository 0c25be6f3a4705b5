"""What a score means: a name, a direction and a unit; turned once, here, and turned back to show.

Inside, a *score* is a number of which higher is better, in the objective's scale; whatever people
read is the *value* in their own unit. This file must not know where values come from.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evosearch.errors import ConfigError

Direction = Literal["max", "min"]
SEPARATOR = "#"
"""Between an anchor and its further objectives in names of coordinates: ``tiny-gpt#ms``."""


class Objective(BaseModel):
    """A named quantity that an evaluation gives.

    ``scale``: how much of the unit counts as one; by default 100 for per cent and 1 for all else,
    so that a mean over anchors adds shares to shares. ``worst``: the value of knowing nothing,
    which a training that diverged gets; where it is not said, an untrained network is measured. The
    hypervolume is measured from it, where the settings say no other reference.

    Example:
        >>> Objective("bpc", "min", "bit/char").score(2.0)
        -2.0
        >>> Objective("miou", "max", "%").text(0.5)
        '50.000 %'
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,39}$")]
    """As the evaluation returns it."""
    direction: Direction = "max"
    """Whether higher values are better, or lower ones."""
    unit: Annotated[str, Field(max_length=20)] = ""
    """What follows the numbers, such as ``%`` or ``bit/char``."""
    scale: Annotated[float, Field(gt=0.0)] | None = None
    """How much of the unit counts as one; by default 100 of ``%``, else 1."""
    worst: float | None = None
    """The value of knowing nothing, which a training that diverged gets."""

    def __init__(
        self, name: str = "", direction: str = "max", unit: str = "", **others: Any
    ) -> None:
        try:
            super().__init__(name=name, direction=direction, unit=unit, **others)
        except ValidationError as err:
            first = err.errors()[0]
            raise ConfigError(
                f"bad objective: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                got=repr(first["input"])[:60], expected='es.Objective("bpc", "min", "bit/char")',
            ) from err  # fmt: skip

    @property
    def sign(self) -> float:
        """1 where higher values are better, else -1."""
        return 1.0 if self.direction == "max" else -1.0

    def _scale(self) -> float:
        return self.scale or (100.0 if self.unit == "%" else 1.0)

    def score(self, value: float) -> float:
        """The value as a score, of which higher is better."""
        return self.sign * value / self._scale()

    def value(self, score: float) -> float:
        """The score as a value in the objective's unit."""
        return self.sign * score * self._scale() + 0.0

    def text(self, score: float, digits: int = 3) -> str:
        """A score as people read it: value and unit."""
        return f"{self.value(score):.{digits}f}" + (f" {self.unit}" if self.unit else "")

    def change(self, difference: float, digits: int = 3) -> str:
        """A difference of scores as a change of the value, with its sign."""
        value = self.value(difference)
        return f"{0.0 if math.isclose(value, 0.0) else value:+.{digits}f}"

    @property
    def label(self) -> str:
        """Name, unit and which way is better: ``bpc, bit/char, lower is better``."""
        better = "higher" if self.direction == "max" else "lower"
        return ", ".join(part for part in (self.name, self.unit, f"{better} is better") if part)


ACCURACY = Objective("accuracy", worst=0.0)
"""Of anchors that name none: a share from 0 to 1."""
