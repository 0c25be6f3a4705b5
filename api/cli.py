"""The command ``evosearch``: its tree of commands, and the one place where errors become text.

Whatever goes wrong on purpose is one line on stderr and exit code 2. This file must not import
torch, ray or a database at module level: ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from api import (
    commands_again,
    commands_anchor,
    commands_bench,
    commands_budget,
    commands_data,
    commands_layer,
    commands_preset,
    commands_report,
    commands_rerank,
    commands_search,
    commands_serve,
    commands_store,
    commands_study,
    commands_watch,
)
from evosearch.errors import EvosearchError
from evosearch.garbage import collect_rarely

USAGE = 2
"""Exit code of everything that the caller can put right."""

INTERRUPTED = 130

app = typer.Typer(
    name="evosearch",
    help="Evolve normalization-activation layers for your own networks and data.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
search = typer.Typer(
    help="Start, watch and steer searches.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(search, name="search")
commands_search.register(search)
commands_budget.register(search)
commands_report.register(search)
commands_again.register(search)
commands_layer.register(app)
commands_data.register(app)
commands_watch.register(search)
commands_serve.register(app)
commands_store.register(app)
commands_preset.register(app)
commands_bench.register(app)
commands_anchor.register(app)
commands_study.register(app)
commands_rerank.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from api.wiring import package_version

        typer.echo(f"evosearch {package_version('evosearch')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Evolve normalization-activation layers for your own networks and data."""


def main() -> None:
    """Entry point of the installed command; always ends in `SystemExit`."""
    collect_rarely()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        result: Any = app(arguments, prog_name="evosearch", standalone_mode=False)
    except EvosearchError as err:
        return _refused(str(err))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as in `evosearch catalog | head`; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as err:  # usage errors of typer, whose classes moved between its releases
        if not hasattr(err, "format_message"):
            raise
        return _misused(err)
    return result if isinstance(result, int) else 0


def _misused(err: Any) -> int:
    """A wrong option or argument, or a bare command, which gets its help."""
    message, context = str(err.format_message()), getattr(err, "ctx", None)
    if type(err).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return USAGE
    command = context.command_path if context is not None else "evosearch"
    return _refused(f"{message.replace('Value error, ', '').rstrip('.')}; see: {command} --help")


def _refused(line: str) -> int:
    print("evosearch: " + " ".join(line.split()), file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    main()
