from __future__ import annotations


def test_the_terminal_shows_names_as_they_are(row) -> None:
    import rich.console

    console = rich.console.Console(width=250, no_color=True)
    with console.capture() as capture:
        console.print(to_terminal([row("[red]a[/]")], "main"))
    assert "[red]a[/]" in capture.get()
    assert "70.00 %" in capture.get()


