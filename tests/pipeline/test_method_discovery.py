from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import netpress.methods
from netpress.errors import ConfigError, UnknownNameError
from netpress.methods.finetune import Finetune
from netpress.pipeline import Method, Recipe, compress, field_docs, find_method, method, method_name, method_names


@dataclass(frozen=True, kw_only=True)
class Outside(Finetune):
    """Somebody else's method.

    Attributes:
        strength: How much of it; a line
            that goes on.
    """

    strength: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Again(Outside):
    """A second one.

    Attributes:
        strength: Told anew.
        more: Its own.
    """

    more: int = 1


NO_METHOD = "just text"


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch):
    """Plug-ins as installed packages declare them."""

    def install(**targets: str) -> None:
        points = [EntryPoint(name, target, "netpress.methods") for name, target in targets.items()]
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: points if group == "netpress.methods" else []
        )
        forget()

    def forget() -> None:
        method._plugins.cache_clear()
        method_names.cache_clear()

    forget()
    yield install
    monkeypatch.undo()
    forget()


def test_methods_are_the_files_of_their_folder() -> None:
    files = {p.stem for p in Path(netpress.methods.__path__[0]).glob("*.py") if not p.stem.startswith("_")}
    assert files <= set(method_names())
    for name in files:
        assert find_method(name).__module__ == f"netpress.methods.{name}"
        assert method_name(find_method(name)) == method_name(find_method(name)()) == name


def test_a_new_file_is_a_method_without_any_other_edit(tmp_path: Path, monkeypatch, plug_ins) -> None:
    text = Path(netpress.methods.__path__[0], "finetune.py").read_text("utf-8")
    second = text[text.index("@dataclass") :].replace("class Finetune", "class Second")
    (tmp_path / "brand_new.py").write_text(text.replace("class Finetune", "class BrandNew"), encoding="utf-8")
    (tmp_path / "_private.py").write_text("", encoding="utf-8")
    (tmp_path / "two_methods.py").write_text(text + second, encoding="utf-8")
    monkeypatch.setattr(netpress.methods, "__path__", [*netpress.methods.__path__, str(tmp_path)])
    assert {"brand_new", "two_methods", "ahosvd"} <= set(method_names())
    assert "_private" not in method_names()
    assert Recipe.read("brand_new").as_dict()["methods"] == [{"brand_new": {}}]
    with pytest.raises(ConfigError, match=r"the file methods/two_methods\.py must define one method; got: 2 of them"):
        find_method("two_methods")


def test_a_plug_in_is_a_method_like_any_other(plug_ins, network, data) -> None:
    plug_ins(outside=f"{__name__}:Outside", broken=f"{__name__}:NO_METHOD")
    assert "outside" in method_names()
    assert find_method("outside") is Outside
    recipe = Recipe.read("outside").with_settings(["strength=1", "epochs=0"])
    assert recipe.name == "outside"
    assert Recipe.read(recipe.as_dict()) == recipe
    assert recipe.as_dict()["methods"] == [{"outside": {"strength": 1.0}}]
    assert compress(network, recipe, data, latency=False).after.params == 1016
    with pytest.raises(
        ConfigError, match="the plug-in 'broken' is no method; got: 'just text'; allowed: a subclass of"
    ):
        find_method("broken")


def test_the_meaning_of_fields_is_inherited(plug_ins) -> None:
    assert field_docs(Outside) == {"strength": "How much of it; a line that goes on."}
    assert field_docs(Again) == {"strength": "Told anew.", "more": "Its own."}
    assert field_docs(find_method("ahosvd"))["hidden"].startswith("Widths of the FNN's hidden layers")


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_method("autoencodr")
    assert str(caught.value) == (
        f"unknown method; got: 'autoencodr'; allowed: {', '.join(method_names())}; remedy: did you mean 'autoencoder'?"
    )


def test_listing_methods_imports_none_of_them() -> None:
    code = (
        "import sys; from netpress.pipeline.method import method_names; names = method_names()\n"
        "assert 'ahosvd' in names and 'netpress.methods.ahosvd' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_method_must_say_how_it_is_applied() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Nothing(Method):
        """No apply."""

    with pytest.raises(TypeError, match="abstract"):
        Nothing()
