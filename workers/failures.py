"""What an error of a layer is recorded as."""

from __future__ import annotations

from evosearch.plugins import user_line
from evosearch.records import Cause, Failure

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
    # After such an error nothing works on the GPU any more in this process.
    broken = not short_of_memory and isinstance(err, RuntimeError) and "CUDA error" in str(err)
    cause: Cause = "out_of_memory" if short_of_memory else "died" if broken else "error"
    return Failure(cause=cause, detail=line[:DETAIL_LENGTH])
