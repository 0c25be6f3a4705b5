"""Draws the end of a real search as an SVG for the README, from the search's database.

``python docs/make_picture.py sqlite:///evosearch.db ID docs/quickstart.svg``
"""

from __future__ import annotations

import io
import sys

from rich.console import Console

from api.report_text import print_report
from db import open_store
from evosearch.state import recover


def main(url: str, ref: str, path: str) -> None:
    store = open_store(url)
    info = store.search(ref)
    state = recover(store.events(info.id))
    console = Console(record=True, width=132, file=io.StringIO(), force_terminal=True)
    print_report(console, state)
    console.save_svg(path, title=f"evosearch search start {info.config.preset}")
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
