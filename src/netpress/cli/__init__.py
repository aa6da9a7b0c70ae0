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
    except NetpressError as error:
        ERR.print(f"[bold red]error[/]  {_escape(error.what)}")
        for label in ("got", "allowed", "remedy"):
            value = getattr(error, label)
            if value is not None:
                ERR.print(f"  [bold]{label:<8}[/]{_escape(str(value))}")
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        ERR.print("interrupted: the same command goes on from the last checkpoint, where it keeps one")
        sys.exit(130)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
