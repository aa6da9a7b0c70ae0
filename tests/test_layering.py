"""The order of the packages, and what no file of the source may hold.

The order is read from the drawing in docs/architecture.md, so that drawing and code cannot part. Every import statement
counts: those inside functions, and those for type checkers, too, since a type in a signature is a dependence as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "netpress"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 500
PICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def drawn_layers() -> list[tuple[str, ...]]:
    """The layers of the first drawing in docs/architecture.md, highest first."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert drawing, "docs/architecture.md has no drawing"
    lines = [line for line in drawing.group(1).splitlines() if line and not line.startswith(" ")]
    return [tuple(re.split(r",\s*", re.split(r"\s{2,}", line)[0])) for line in lines]


LAYERS = drawn_layers()
HEIGHT = {name: len(LAYERS) - number for number, layer in enumerate(LAYERS) for name in layer}


def package_of(file: Path) -> str:
    """The part of netpress that a file belongs to: a folder, or a module beside them."""
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports(package: str, module: str, source: str) -> list[str]:
    """Each import of ``source`` that does not go downward, in words."""
    wrong = []
    for line, name in imports(source):
        if name.startswith("."):
            wrong.append(f"line {line}: {name} is relative; write it in full")
            continue
        parts = name.split(".")
        if parts[0] != "netpress" or len(parts) == 1:
            continue
        target = parts[1]
        if target not in HEIGHT:
            wrong.append(f"line {line}: {name} goes through the front door; name the package it lives in")
        elif target == package:
            if package == "methods" and module != "__init__" and parts[2:3] != [module]:
                wrong.append(f"line {line}: {name}: a method imports a method")
        elif HEIGHT[target] >= HEIGHT[package]:
            wrong.append(f"line {line}: {name} is not below {package}")
    return wrong


def forbidden(package: str, source: str) -> list[str]:
    """What ``source`` must not hold: prints outside the command line, pickles, code run from text, asserts, bare excepts."""
    found = [f"line {n}: imports {name}" for n, name in imports(source) if name.partition(".")[0] in PICKLERS]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assert | ast.ExceptHandler | ast.Call):
            continue
        said = None
        if isinstance(node, ast.Assert):
            said = "asserts; raise an error of netpress.errors"
        elif isinstance(node, ast.Call):
            said = _forbidden_call(package, node)
        elif node.type is None:
            said = "catches everything"
        if said:
            found.append(f"line {node.lineno}: {said}")
    return found


def _forbidden_call(package: str, call: ast.Call) -> str | None:
    called = ast.unparse(call.func)
    if called == "print" and package != "cli":
        return "prints; only the command line does"
    if called in RUNNERS:
        return f"calls {called}"
    if called in ("torch.load", "torch.save") or called.endswith((".pickle.load", ".pickle.loads")):
        return f"calls {called}, which pickles"
    for keyword in call.keywords:
        if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False:
            return "allows pickles"
    return None


def test_the_drawing_names_each_part_once_and_no_other() -> None:
    parts = {package_of(file) for file in FILES} - {"__init__"}
    drawn = [name for layer in LAYERS for name in layer]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == parts


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_go_downward(file: Path) -> None:
    if file == SOURCE / "__init__.py":
        return  # the front door: it may name everything, and imports nothing until asked (tests/test_package.py)
    assert wrong_imports(package_of(file), file.stem, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_nothing_forbidden(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert forbidden(package_of(file), source) == []
    assert source.count("\n") <= MOST_LINES, "a file of more than 500 lines is two"


@pytest.mark.parametrize(
    ("package", "module", "line"),
    [
        ("maths", "ranks", "from netpress.pipeline import Job"),
        ("maths", "ranks", "import netpress.layers.tucker"),
        ("graph", "trace", "from netpress import artifact"),
        ("data", "stream", "from netpress.zoo import build"),
        ("graph", "trace", "def f():\n    from netpress.measure import cost"),
        ("graph", "trace", "if TYPE_CHECKING:\n    from netpress.measure import Cost"),
        ("methods", "pod", "from netpress.methods.ahosvd import AHOSVD"),
        ("methods", "pod", "from netpress.methods import ahosvd"),
        ("pipeline", "job", "from netpress import compress"),
        ("pipeline", "job", "from .budget import Budget"),
    ],
)
def test_a_wrong_import_is_seen(package: str, module: str, line: str) -> None:
    assert len(wrong_imports(package, module, line)) == 1


def test_right_imports_are_let_through() -> None:
    source = "import torch\nimport netpress\nfrom netpress import artifact\nfrom netpress.pipeline.budget import Budget"
    assert wrong_imports("pipeline", "job", source) == []


@pytest.mark.parametrize(
    "line",
    [
        "print(1)",
        "import pickle",
        "from pickle import loads",
        "torch.load('x')",
        "eval('1')",
        "exec('1')",
        "numpy.load('x', allow_pickle=True)",
        "assert x, 'give x'",
        "try:\n    f()\nexcept:\n    pass",
    ],
)
def test_something_forbidden_is_seen(line: str) -> None:
    assert len(forbidden("maths", line)) == 1


def test_the_command_line_may_print_and_a_network_may_be_put_in_eval_mode() -> None:
    assert forbidden("cli", "print(1)") == []
    assert forbidden("maths", "network.eval()\nnumpy.load('x', allow_pickle=False)") == []
