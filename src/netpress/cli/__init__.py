"""The command line. ``main`` is the entry point; torch is imported only by the commands that need it."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 it failed, 2 what was typed is wrong, 130 interrupted."""
    from netpress.cli.app import app
    from netpress.cli.console import ERR
    from netpress.errors import ConfigError, NetpressError

    try:
        app(args=arguments)
    except SystemExit as end:
        if end.code == 130:  # typer turns Ctrl-C into this, without a word
            _say_interrupted()
        raise
    except NetpressError as error:
        # Not wrapped: where no terminal shows it, a path or a name must stay in one piece.
        ERR.print(f"[bold red]error[/]  {_escape(error.what)}", soft_wrap=True)
        for label in ("got", "allowed", "remedy"):
            value = getattr(error, label)
            if value is not None:
                ERR.print(f"  [bold]{label:<8}[/]{_escape(str(value))}", soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(130)


def _say_interrupted() -> None:
    from netpress.cli.console import ERR

    ERR.print("interrupted: the same command goes on from the last checkpoint, where it keeps one")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
