"""The package as its users meet it: what is public, what an import costs, what a wheel holds."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import netpress

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "scipy", "sklearn", "PIL", "yaml", "jinja2")

PUBLIC = [
    "Budget",
    "Data",
    "Distillation",
    "GraphNetwork",
    "Job",
    "Method",
    "NetpressError",
    "Preprocess",
    "Recipe",
    "Result",
    "Split",
    "TrainingPlan",
    "__version__",
    "compress",
    "cost",
    "data",
    "errors",
    "find_method",
    "graph",
    "inspect",
    "layers",
    "load",
    "maths",
    "measure",
    "method_names",
    "methods",
    "open_data",
    "open_network",
    "quality",
    "save",
    "trace",
    "training",
    "zoo",
]


def imported_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after running ``code``."""
    report = (
        "import json, sys; sys.stderr.write('\\n' + json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    ran = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stderr.rpartition("\n")[2]))


def test_the_probe_sees_an_import() -> None:
    assert "numpy" in imported_by("import numpy")


def test_importing_netpress_brings_nothing_heavy() -> None:
    assert imported_by("import netpress; netpress.errors; netpress.__version__").isdisjoint(HEAVY)


@pytest.mark.parametrize("command", [["--help"], ["compress", "--help"], ["--version"]])
def test_help_brings_nothing_heavy(command: list[str]) -> None:
    code = (
        f"from netpress.cli import main\ntry:\n    main({command})\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert imported_by(code).isdisjoint(HEAVY)


def test_python_runs_the_package_by_name() -> None:
    ran = subprocess.run([sys.executable, "-m", "netpress", "--version"], capture_output=True, text=True, check=True)
    assert netpress.__version__ in ran.stdout


def test_public_names_are_pinned() -> None:
    assert netpress.__all__ == PUBLIC
    assert dir(netpress) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(netpress, name) is not None


def test_an_unknown_name_is_an_attribute_error_that_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'compres'.*compress, cost"):
        netpress.compres  # noqa: B018


def test_type_checkers_are_told_the_same_names() -> None:
    source = (ROOT / "src/netpress/__init__.py").read_text(encoding="utf-8")
    [block] = [n for n in ast.parse(source).body if isinstance(n, ast.If)]
    imports = [i for i in block.body if isinstance(i, ast.ImportFrom)]
    told = {a.name: ".".join((i.module or "").split(".")[:2]) for i in imports for a in i.names}
    homes = {name: f"netpress.{home}" for name, home in netpress._HOME.items()} | dict.fromkeys(
        netpress._MODULES, "netpress"
    )
    assert told == homes
    assert {*told, "__version__"} == set(PUBLIC)


def test_the_version_is_a_heading_of_the_changelog() -> None:
    headings = re.findall(r"^## \[([^]]+)]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert netpress.__version__ in headings


def test_the_constrained_torch_is_one_that_the_package_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    lowest = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["data"]]:
        name, _, version = requirement.partition(">=")
        lowest[name.lower()] = version
    assert set(lowest) <= set(pins)
    for name, version in lowest.items():
        assert _numbers(pins[name]) >= _numbers(version), name


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


@pytest.mark.slow
def test_the_wheel_runs_alone_in_a_fresh_environment(tmp_path: Path) -> None:
    """Needs a package index; `make check-wheel` does the same with the constrained torch."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"netpress/py.typed", "netpress/compare/templates/report.html", "netpress/compare/demo.yaml"} <= set(names)
    assert not [name for name in names if name.startswith("tests")]
    home = tmp_path / "fresh"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    ran = subprocess.run([home / "bin/netpress", "methods", "--json"], check=True, capture_output=True, cwd=tmp_path)
    assert [card["name"] for card in json.loads(ran.stdout)["methods"]] == list(netpress.method_names())
