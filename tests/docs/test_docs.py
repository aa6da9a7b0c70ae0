"""What README.md and docs/ show: commands parse, code runs, specs are read, tables and links are true."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from torch import nn
from typer.main import get_command

import netpress
from netpress.cli.app import app
from netpress.compare import read_spec
from netpress.pipeline.budget import Budget

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = get_command(app)
SUBCOMMANDS: dict[str, Any] = vars(COMMANDS)["commands"]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    """Every line of a shell block that calls netpress, and every such text between backticks with an argument."""
    lines = [
        line
        for page in PAGES
        for block in blocks(str(page.relative_to(ROOT)), "sh")
        for line in block.splitlines()
        if line.startswith("netpress ")
    ]
    assert lines
    return sorted(set(lines))


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """Command and parameters of a line, parsed as the command line does, without running it."""
    name, *arguments = shlex.split(line, comments=True)[1:]
    return name, SUBCOMMANDS[name].make_context(name, arguments).params


@pytest.mark.parametrize("line", command_lines())
def test_commands_parse(line: str) -> None:
    name, given = parsed(line)
    recipe = given.get("recipe")
    if recipe in netpress.method_names():
        netpress.Recipe.read(recipe).with_settings(given["settings"] or [])
    elif recipe is not None:
        assert recipe == "channel_mean", recipe  # docs/write-a-method.md makes that one
    Budget.parse(given.get("budget"))
    if name == "train":
        from netpress.pipeline import plan_with

        plan_with(given["settings"] or [])
    if name in ("train", "profile", "compress"):
        assert given["net"] in netpress.zoo.names() or str(given["net"]).endswith(".netpress")


@pytest.mark.parametrize(
    "line", ["netpress nosuch", "netpress compress resnet20", "netpress eval x.netpress -d digits --no"]
)
def test_a_wrong_command_is_seen(line: str) -> None:
    usage_error = typer.BadParameter.__bases__[0]
    with pytest.raises((usage_error, KeyError)):
        parsed(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_json_is_json(page: Path) -> None:
    for block in blocks(str(page.relative_to(ROOT)), "json"):
        json.loads(block)


def test_the_json_forms_have_the_fields_of_the_code() -> None:
    cost, quality = (json.loads(block) for block in blocks("docs/cli.md", "json"))
    from netpress.measure import Cost, Quality

    assert set(cost) == {f.name for f in dataclasses.fields(Cost)}
    assert set(quality) == {f.name for f in dataclasses.fields(Quality)}


def test_the_tables_name_every_method_and_every_command() -> None:
    methods = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(methods) == sorted(netpress.method_names())
    commands = re.findall(r"^\| `netpress (\w+)` \|", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(commands) == sorted(SUBCOMMANDS)


def test_the_recipe_written_out_is_the_default_one() -> None:
    written = yaml.safe_load(blocks("docs/recipes.md", "yaml")[0])
    assert written == netpress.Recipe.read("ahosvd").as_dict()
    assert netpress.Recipe.read(written) == netpress.Recipe.read("ahosvd")


def test_the_other_recipe_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(blocks("docs/recipes.md", "yaml")[1])
    recipe = netpress.Recipe.read(file)
    assert recipe.distill == netpress.Distillation.preset("published")
    assert recipe.training.lr_scale == {"reduction": 0.1, "map": 0.1}


def test_the_specs_are_read(tmp_path: Path) -> None:
    (tmp_path / "vgg16_bn.safetensors").touch()
    (tmp_path / "cifar10.npz").touch()
    file = tmp_path / "spec.yaml"
    file.write_text(blocks("docs/compare.md", "yaml")[0])
    spec = read_spec(file, variables={"WEIGHTS": str(tmp_path), "DATA": str(tmp_path)})
    assert [stage.name for stage in spec.stages] == ["screen", "final"]
    assert [recipe.name for recipe in spec.stages[0].recipes] == ["finetune", "ahosvd 35", "bottleneck", "slow mixer"]
    file.write_text(blocks("README.md", "yaml")[0])
    assert read_spec(file).stages[0].seeds == (0, 1, 2)


@pytest.mark.parametrize("page", ["README.md", "docs/recipes.md"])
def test_python_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"my_trained_network": lambda: netpress.zoo.build("digits_cnn", seed=0)}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    if page == "README.md":
        assert isinstance(names["small"], nn.Module)
        assert "95466 -> " in capsys.readouterr().out
        assert names["recipe"].training.epochs == 5
