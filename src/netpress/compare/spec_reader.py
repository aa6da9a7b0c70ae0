"""Reads a spec from its YAML file, strictly: see ``spec`` for what it may hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netpress.compare.reading import (
    Place,
    expand_variables,
    flag,
    free_mapping,
    load_yaml,
    mapping,
    resolve_path,
    sequence,
    text,
    whole,
)
from netpress.compare.spec import Best, DataSpec, NetworkSpec, RecipeSpec, Spec, Stage
from netpress.errors import UnknownNameError
from netpress.pipeline.budget import Budget

GRID_KEYS = ("data", "recipes", "budgets", "seeds", "train", "latency", "only", "exclude")
TOP_KEYS = ("title", "networks", *GRID_KEYS, "stages")
STAGE_KEYS = ("name", "networks", *GRID_KEYS, "best", "of", "by")
NETWORK_KEYS = ("name", "net", "weights", "train", "train_on", "seed", "at", "data")
RECIPE_KEYS = ("name", "recipe", "set", "budgets", "reference")
FILTER_KEYS = ("stage", "network", "data", "recipe", "budget", "seed")
WEIGHT_SUFFIXES = (".safetensors", ".netpress", ".npz", ".pt", ".pth")

#: The method that trains the teacher for the same extra epochs and changes nothing else.
REFERENCE_METHOD = "finetune"


def read_spec(file: str | Path, *, variables: Mapping[str, str] | None = None) -> Spec:
    """Reads and checks a spec.

    Args:
        file: The YAML file.
        variables: Values for ``${NAME}``; the environment when None.

    Raises:
        ConfigError: Anything that is unknown, missing, doubled or of the wrong kind; the text names file and key.
    """
    file = Path(file).absolute()
    return _Reader(os.environ if variables is None else variables).spec(load_yaml(file), Place(file))


class _Reader:
    """Holds what all parts share while one spec is read: the variables, and the data sets named so far."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.known_data: dict[str, DataSpec] = {}

    def spec(self, value: Any, place: Place) -> Spec:
        top = mapping(value, place, TOP_KEYS, required=("networks",))
        # The top level's data comes first: networks and stages refer to it by name.
        data = self.data_list(top["data"], place.key("data")) if "data" in top else None
        networks = tuple(
            self.network(item, place.key("networks").item(i))
            for i, item in enumerate(sequence(top["networks"], place.key("networks")))
        )
        _unique([n.name for n in networks], place.key("networks"))
        grid = {k: v for k, v in top.items() if k in GRID_KEYS}
        stages: list[Stage] = []
        if "stages" in top:
            for i, item in enumerate(sequence(top["stages"], place.key("stages"))):
                at = place.key("stages").item(i)
                own = mapping(item, at, STAGE_KEYS, required=("name",))
                stages.append(self.stage(own, at, grid, place, networks, data, stages))
            _unique([s.name for s in stages], place.key("stages"))
        else:
            stages.append(self.stage({"name": "main"}, place, grid, place, networks, data, stages))
        title = text(top["title"], place.key("title")) if "title" in top else place.file.stem
        spec = Spec(title=title, stages=tuple(stages), file=place.file)
        _check_filters(spec, place)
        return spec

    def stage(
        self,
        own: dict[str, Any],
        at: Place,
        grid: dict[str, Any],
        top: Place,
        networks: tuple[NetworkSpec, ...],
        data: tuple[DataSpec, ...] | None,
        earlier: list[Stage],
    ) -> Stage:
        def found(name: str) -> tuple[Any, Place]:
            return (own[name], at.key(name)) if name in own else (grid.get(name), top.key(name))

        best = self.best(own, at, [s.name for s in earlier])
        if "networks" in own:
            names = [text(n, at.key("networks")) for n in sequence(own["networks"], at.key("networks"))]
            networks = tuple(_lookup(n, networks, at.key("networks")) for n in names)
        if "data" in own:
            data = self.data_list(own["data"], at.key("data"))
        for network in networks:
            if data is None and network.data is None:
                raise at.error(f"no data for the network {network.name!r}", remedy="add the key 'data'")
        recipes, recipes_at = found("recipes")
        if best is not None:  # the top level's recipes do not join a choice; the stage's own do
            recipes = own.get("recipes", [])
        elif recipes is None:
            raise at.error("the key 'recipes' is missing")
        items = sequence(recipes, recipes_at) if recipes != [] or best is None else []
        read = tuple(self.recipe(item, recipes_at.item(i)) for i, item in enumerate(items))
        _unique([r.name for r in read], recipes_at)
        budgets, seeds, latency = found("budgets"), found("seeds"), found("latency")
        train = free_mapping(grid.get("train"), top.key("train")) | free_mapping(own.get("train"), at.key("train"))
        return Stage(
            name=text(own["name"], at.key("name")),
            networks=networks,
            data=data or (),
            recipes=read,
            budgets=(None,) if budgets[0] is None else _budgets(*budgets),
            seeds=(0,) if seeds[0] is None else _seeds(*seeds),
            train=train,
            latency=True if latency[0] is None else flag(*latency),
            only=_filters(*found("only")),
            exclude=_filters(*found("exclude")),
            best=best,
        )

    def best(self, own: dict[str, Any], at: Place, earlier: list[str]) -> Best | None:
        if not {"best", "of", "by"} & own.keys():
            return None
        mapping(own, at, STAGE_KEYS, required=("best", "of", "by"))
        if own["by"] != "held_out":
            raise at.key("by").error(
                "recipes are chosen on a held-out part of the training data, never on the test set",
                got=repr(own["by"]),
                allowed="held_out",
            )
        of = text(own["of"], at.key("of"))
        if of not in earlier:
            raise UnknownNameError(f"earlier stage in {at.key('of')}", of, earlier)
        return Best(count=whole(own["best"], at.key("best"), least=1), of=of)

    def network(self, value: Any, at: Place) -> NetworkSpec:
        own = mapping(value, at, NETWORK_KEYS, required=("net",))
        called, net = self.file_callable(text(own["net"], at.key("net")), at.key("net"))
        if ("weights" in own) == ("train" in own):
            raise at.error(
                "a network has either 'weights' or 'train'",
                got="both" if "weights" in own else "neither",
                remedy="give trained weights, or a plan by which the run trains the teacher",
            )
        for name in ("train_on", "seed"):
            if name in own and "train" not in own:
                raise at.key(name).error("this belongs to 'train', which is absent", remedy="remove it")
        return NetworkSpec(
            name=text(own.get("name", called), at.key("name")),
            net=net,
            weights=self.weights(own["weights"], at.key("weights")) if "weights" in own else None,
            train=free_mapping(own["train"], at.key("train")) if "train" in own else None,
            train_on=self.data(own["train_on"], at.key("train_on")) if "train_on" in own else None,
            seed=whole(own.get("seed", 0), at.key("seed"), least=0),
            at=text(own["at"], at.key("at")) if own.get("at") is not None else None,
            data=self.data_list(own["data"], at.key("data")) if "data" in own else None,
        )

    def weights(self, value: Any, at: Place) -> Path | str:
        written = text(value, at)
        if not ("/" in written or "\\" in written or written.endswith(WEIGHT_SUFFIXES)):
            return written
        path = resolve_path(written, at, self.variables)
        if not path.is_file():
            raise at.error("there is no such file", got=str(path), allowed="a file of weights or a pretrained name")
        return path

    def recipe(self, value: Any, at: Place) -> RecipeSpec:
        own = {"recipe": value} if isinstance(value, str) else mapping(value, at, RECIPE_KEYS, required=("recipe",))
        source: str | Mapping[str, Any]
        if isinstance(own["recipe"], str):
            source = text(own["recipe"], at.key("recipe"))
            default = source
            if source.endswith((".yaml", ".yml")):
                path = resolve_path(source, at.key("recipe"), self.variables)
                default, source = path.stem, free_mapping(load_yaml(path), Place(path))
        else:
            source, default = free_mapping(own["recipe"], at.key("recipe")), None
            if "name" not in own:
                raise at.error("a recipe written out here needs a 'name'", got="none", allowed="a text for the tables")
        reference = flag(own.get("reference", source == REFERENCE_METHOD), at.key("reference"))
        budgets = _budgets(own["budgets"], at.key("budgets")) if "budgets" in own else None
        if reference and budgets not in (None, (None,)):
            raise at.key("budgets").error(
                "a reference has no budget: it is the teacher, trained on", remedy="remove it"
            )
        return RecipeSpec(
            name=text(own.get("name", default), at.key("name")),
            recipe=source,
            settings=free_mapping(own.get("set"), at.key("set")),
            budgets=(None,) if reference else budgets,
            reference=reference,
        )

    def data_list(self, value: Any, at: Place) -> tuple[DataSpec, ...]:
        items = [value] if isinstance(value, str | Mapping) else sequence(value, at)
        found = tuple(self.data(item, at.item(i)) for i, item in enumerate(items))
        _unique([d.name for d in found], at)
        return found

    def data(self, value: Any, at: Place) -> DataSpec:
        if isinstance(value, str) and value in self.known_data:
            return self.known_data[value]
        own = {"spec": value} if isinstance(value, str) else mapping(value, at, ("name", "spec"), required=("spec",))
        written = text(own["spec"], at.key("spec") if "name" in own else at)
        name, spec = self.data_paths(written, at)
        found = DataSpec(name=text(own.get("name", name), at.key("name")), spec=spec)
        if self.known_data.setdefault(found.name, found) != found:
            raise at.error("two data sets have one name", got=repr(found.name), remedy="give each its own 'name'")
        return found

    def data_paths(self, written: str, at: Place) -> tuple[str, str]:
        """The default name (no folder in it) and the spec with its path resolved."""
        source, mark, selection = written.partition("?")
        kind, colon, rest = source.partition(":")
        if colon and kind in ("npz", "folder"):
            path = resolve_path(rest, at, self.variables)
            return f"{path.name}{mark}{selection}", f"{kind}:{path}{mark}{selection}"
        return self.file_callable(written, at)

    def file_callable(self, written: str, at: Place) -> tuple[str, str]:
        """``FILE.py:CALLABLE``, for tables without its folder and with its path resolved; any other text as it is."""
        file, dot_py, rest = written.partition(".py:")
        if dot_py:
            path = resolve_path(file + ".py", at, self.variables)
            return f"{path.name}:{rest}", f"{path}:{rest}"
        return written, expand_variables(written, at, self.variables)


def _budgets(value: Any, place: Place) -> tuple[str | None, ...]:
    items = [value] if isinstance(value, str) else sequence(value, place)
    budgets = tuple(
        None if item is None else str(Budget.parse(text(item, place.item(i)))) for i, item in enumerate(items)
    )
    _unique([str(b) for b in budgets], place)
    return budgets


def _seeds(value: Any, place: Place) -> tuple[int, ...]:
    seeds = tuple(whole(item, place.item(i), least=0) for i, item in enumerate(sequence(value, place)))
    _unique([str(s) for s in seeds], place)
    return seeds


def _filters(value: Any, place: Place) -> tuple[Mapping[str, tuple[Any, ...]], ...]:
    if value is None:
        return ()
    found = []
    for i, item in enumerate(sequence(value, place)):
        rule = {}
        for name, wanted in mapping(item, place.item(i), FILTER_KEYS).items():
            values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
            if name == "budget":
                values = tuple(None if v is None else str(Budget.parse(str(v))) for v in values)
            rule[name] = values
        if not rule:
            raise place.item(i).error("a filter without a key matches everything", allowed=", ".join(FILTER_KEYS))
        found.append(rule)
    return tuple(found)


def _check_filters(spec: Spec, place: Place) -> None:
    """A filter's typo must not silently select nothing: each value must exist somewhere in the grid."""
    known: dict[str, set[Any]] = {name: set() for name in FILTER_KEYS}
    for stage in spec.stages:
        known["stage"].add(stage.name)
        known["seed"].update(stage.seeds)
        known["budget"].update((*stage.budgets, *(b for r in stage.recipes for b in r.budgets or ())))
        known["recipe"].update(r.name for r in stage.recipes)
        for network in stage.networks:
            known["network"].add(network.name)
            known["data"].update(d.name for d in network.data or stage.data)
    for stage in spec.stages:
        for kind, rules in (("only", stage.only), ("exclude", stage.exclude)):
            for rule in rules:
                for name, values in rule.items():
                    for value in values:
                        if value not in known[name]:
                            what = f"{name} in '{kind}' of {place.file.name}"
                            raise UnknownNameError(what, str(value), map(str, known[name]))


def _lookup(name: str, networks: tuple[NetworkSpec, ...], place: Place) -> NetworkSpec:
    for network in networks:
        if network.name == name:
            return network
    raise UnknownNameError(f"network in {place}", name, [n.name for n in networks])


def _unique(names: list[str], place: Place) -> None:
    for name in names:
        if names.count(name) > 1:
            raise place.error("two entries have one name", got=repr(name), remedy="give each its own")
