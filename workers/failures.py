"""What an error of a layer is recorded as."""

from __future__ import annotations

from evosearch.plugins import user_line
from evosearch.records import Failure

DETAIL_LENGTH = 600


def failure_of(err: BaseException) -> Failure:
    """An exhausted memory, or an error; with the line of the user's code where it is theirs."""
    line = " ".join(f"{type(err).__name__}: {err}".split())
    place = user_line(err)
    if place and place not in line:
        line = f"{place}: {line}"
    short_of_memory = isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
    # torch's allocator on the CPU has no error class of its own.
    short_of_memory |= isinstance(err, RuntimeError) and "allocate memory" in str(err)
    return Failure(
        cause="out_of_memory" if short_of_memory else "error", detail=line[:DETAIL_LENGTH]
    )
