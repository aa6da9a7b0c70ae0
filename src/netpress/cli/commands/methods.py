"""netpress methods"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netpress.cli import options
from netpress.cli.console import OUT, print_json, table


def run(
    name: Annotated[
        str | None, typer.Argument(help="Show one method's card: idea, equation, fields, when it fails.")
    ] = None,
    as_json: options.JSON = False,
) -> None:
    """List the methods and the recipes, or show one method's card.

    Example: `netpress methods ahosvd`
    """
    from netpress.pipeline import find_method, method_names, recipe_names

    cards = [_card(n, find_method(n)) for n in ([name] if name else method_names())]
    if as_json:
        recipes = {} if name else {"recipes": [{"name": n, "methods": _steps(n)} for n in recipe_names()]}
        print_json({"methods": cards, **recipes})
    elif name:
        OUT.print(f"[bold]{cards[0]['name']}[/]  ({cards[0]['stage']})\n")
        OUT.print(cards[0]["card"], markup=False)
        rows = [(f["name"], f["type"], f["default"], f["meaning"]) for f in cards[0]["fields"]]
        OUT.print()
        table("Fields (--set FIELD=VALUE)", ("field", "type", "default", "meaning"), rows)
    else:
        table("Methods", ("name", "stage", "what it does"), [(c["name"], c["stage"], c["summary"]) for c in cards])
        OUT.print()
        table("Recipes: chains of methods", ("name", "methods"), [(n, " → ".join(_steps(n))) for n in recipe_names()])
        OUT.print("\nOne method's card: netpress methods NAME", style="dim")


def _steps(name: str) -> list[str]:
    from netpress.pipeline import Recipe, method_name

    return [method_name(m) for m in Recipe.read(name).methods]


def _card(name: str, cls: Any) -> dict[str, Any]:
    import dataclasses
    import inspect

    from netpress.pipeline import field_docs

    docs = field_docs(cls)
    text = inspect.getdoc(cls) or ""
    return {
        "name": name,
        "stage": cls.stage,
        "summary": text.split("\n")[0],
        "card": text,
        "fields": [
            {
                "name": f.name,
                "type": str(f.type),
                "default": _default(f, dataclasses.MISSING),
                "meaning": docs.get(f.name, ""),
            }
            for f in dataclasses.fields(cls)
        ],
    }


def _default(field: Any, missing: object) -> Any:
    if field.default is not missing:
        return list(field.default) if isinstance(field.default, tuple) else field.default
    return field.default_factory() if field.default_factory is not missing else None
