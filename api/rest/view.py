"""The base of all answers; it knows no web framework, so that notebooks can draw what REST says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(from_attributes=True)
