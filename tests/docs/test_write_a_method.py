"""docs/write-a-method.md carried out: the method as a file, as an instance, and as another package's plug-in."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

import netpress
from netpress.errors import BudgetError, ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "write-a-method.md"


def block(language: str, number: int = 0) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found[number])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file of the page, on the path and the current one."""
    (tmp_path / "channel_mean.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "channel_mean", raising=False)
    return tmp_path


@pytest.fixture
def channel_mean(folder: Path) -> ModuleType:
    return importlib.import_module("channel_mean")


def test_the_file_is_short() -> None:
    assert len(block("python").splitlines()) <= 70


def test_its_least_squares_finds_a_line_by_hand(channel_mean: ModuleType) -> None:
    x = torch.tensor([[0.0], [1.0], [2.0]])
    y = 3 * x - 1
    fitted = channel_mean.least_squares([(x[:2], y[:2]), (x[2:], y[2:])], ridge=1e-12)
    torch.testing.assert_close(fitted, torch.tensor([[3.0], [-1.0]], dtype=torch.float64))


def test_an_instance_is_a_recipe(folder: Path) -> None:
    network = netpress.zoo.build("digits_cnn", seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    names = {"network": network}
    exec(compile(block("python", 1), str(PAGE), "exec"), names)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    result = names["result"]
    assert isinstance(result, netpress.Result)
    assert result.recipe.name == "channel_mean"
    del sys.modules["channel_mean"]  # the file must load without the code that made it
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(netpress.load(folder / "small.netpress")(x), result.network(x), rtol=0, atol=0)


def test_a_wrong_field_and_a_budget_out_of_reach_are_told(channel_mean: ModuleType) -> None:
    with pytest.raises(ConfigError, match="ridge is out of range; got: 0; allowed: above 0"):
        channel_mean.ChannelMean(ridge=0)
    with pytest.raises(BudgetError, match="cannot be met"):
        netpress.compress(netpress.zoo.build("digits_cnn"), channel_mean.ChannelMean(), "digits", "params=50")


def test_an_installed_package_gives_it_a_name(folder: Path) -> None:
    project = tomllib.loads(block("toml"))["project"]
    points = project["entry-points"]["netpress.methods"]
    told = folder / "netpress_channel_mean-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (told / "entry_points.txt").write_text(
        "[netpress.methods]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", "from netpress.cli import main; main()", "methods", "channel_mean", "--json"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    [card] = json.loads(ran.stdout)["methods"]
    assert (card["name"], [field["name"] for field in card["fields"]]) == ("channel_mean", ["ridge"])
    assert card["summary"].startswith("The means of the C feature maps")
