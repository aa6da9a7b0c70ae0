"""What is to be compared: a grid of networks, data, recipes, budgets and seeds, read from one YAML file.

::

    title: Reduction layers on CIFAR-10
    networks:
      - {name: vgg16, net: "vgg16:classes=10", weights: "${NETPRESS_DATA}/vgg16.safetensors", at: features.17}
    data: ["npz:${NETPRESS_DATA}/c.npz?train=train[:10000]"]
    recipes: [finetune, {name: ahosvd, recipe: ahosvd, set: {ranks: [35, 3, 3]}}, recipes/mixer.yaml]
    budgets: ["params=13%", null]
    seeds: [0, 1, 2]
    train: {epochs: 3}
    exclude: [{recipe: mixer, budget: null}]
    stages:
      - {name: screen, seeds: [0]}
      - {name: final, best: 2, of: screen, by: held_out, data: [{name: all, spec: "npz:${NETPRESS_DATA}/c.npz"}]}

Each stage takes what it does not name itself from the top level. Relative paths start at the folder of the file, and
``${NAME}`` is read from the environment, so that a spec holds no path of any one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataSpec:
    """Data by a name for tables and the text that ``data.open_data`` understands, paths resolved."""

    name: str
    spec: str


@dataclass(frozen=True)
class NetworkSpec:
    """One original network.

    Attributes:
        name: For tables.
        net: What ``zoo`` builds.
        weights: A file, the name of pretrained weights, or None when the run trains the teacher itself.
        train: The plan for that training; None with ``weights``.
        train_on: The data for that training; None: each job's own.
        seed: The seed of that training; one teacher serves the jobs of all seeds.
        at: Where the network is cut, for methods that cut.
        data: The data of this network alone; None: the grid's.
    """

    name: str
    net: str
    weights: Path | str | None = None
    train: Mapping[str, Any] | None = None
    train_on: DataSpec | None = None
    seed: int = 0
    at: str | None = None
    data: tuple[DataSpec, ...] | None = None


@dataclass(frozen=True)
class RecipeSpec:
    """One recipe of the grid.

    Attributes:
        name: For tables.
        recipe: A method's name, or the mapping of a whole recipe (from the spec itself or a file it names).
        settings: Fields to change in it.
        budgets: Its own budgets; None: the grid's.
        reference: Whether it is the teacher given the same extra epochs, against which the others are judged. Such a
            recipe has no budget and takes no part in the choice of the best.
    """

    name: str
    recipe: str | Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    budgets: tuple[str | None, ...] | None = None
    reference: bool = False


@dataclass(frozen=True)
class Best:
    """The choice of the ``count`` best recipes for each network, by held-out quality in the stage ``of``."""

    count: int
    of: str


@dataclass(frozen=True)
class Stage:
    """One grid: the product of all its parts, less what the filters take away."""

    name: str
    networks: tuple[NetworkSpec, ...]
    data: tuple[DataSpec, ...]
    recipes: tuple[RecipeSpec, ...]
    budgets: tuple[str | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    train: Mapping[str, Any] = field(default_factory=dict)
    latency: bool = True
    only: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    exclude: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    best: Best | None = None


@dataclass(frozen=True)
class Spec:
    """A whole comparison: stages in the order in which they run, and the file they were read from."""

    title: str
    stages: tuple[Stage, ...]
    file: Path

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    def candidates(self, stage: Stage) -> tuple[RecipeSpec, ...]:
        """All recipes that may run in ``stage``: its own, and those of the stages it chooses from."""
        if stage.best is None:
            return stage.recipes
        named = {recipe.name for recipe in stage.recipes}
        inherited = self.candidates(self.stage(stage.best.of))
        return (*stage.recipes, *(recipe for recipe in inherited if recipe.name not in named))
