"""Recipes: an ordered list of methods and a training plan, as a value that can be written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from netpress.errors import ConfigError, UnknownNameError
from netpress.pipeline.fields import all_fields, coerce, construct, parse_assignment, plain, read_yaml
from netpress.pipeline.method import Method, find_method, method_name, method_names
from netpress.training import Distillation, TrainingPlan, published_plan

BUNDLED = Path(__file__).parent.parent / "recipes"  # chains of methods that have a name of their own
_KEYS = ("name", "methods", "training", "distill", "hold_out")


@cache
def recipe_names() -> tuple[str, ...]:
    """The names of the recipes in ``recipes/``."""
    return tuple(sorted(path.stem for path in BUNDLED.glob("*.yaml")))


def default_training() -> TrainingPlan:
    """What the whole network is trained with after its structure changed, unless the recipe says otherwise."""
    return TrainingPlan(
        epochs=2,
        batch_size=128,
        optimizer="sgd",
        lr=0.02,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        grad_clip=5.0,
        schedule="one_cycle",
        augment="crop_flip",
    )


def training_preset(name: str) -> TrainingPlan:
    """``default``, or ``published``: Adam, 1e-4 for what stays of the original and 1e-5 for projection and map, 10 epochs.

    ``published`` belongs to the reduction methods and to the distillation preset of the same name (Meneghetti et al. 2026).

    Raises:
        UnknownNameError: Another name.
    """
    presets = {"default": default_training, "published": lambda: published_plan(("reduction", "map"))}
    if name not in presets:
        raise UnknownNameError("preset of a training", name, presets)
    return presets[name]()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to a network, in order, and how it is trained afterwards.

    Attributes:
        methods: Applied in order.
        training: Of the whole network, after all methods; ``epochs=0`` trains nothing.
        distill: How the original network teaches in that training; None trains from the labels alone.
        hold_out: Share of the training images that are kept for selection and never trained on.
        name: For tables; the methods' names by default.
    """

    methods: tuple[Method, ...]
    training: TrainingPlan = field(default_factory=default_training)
    distill: Distillation | None = field(default_factory=lambda: Distillation.preset("default"))
    hold_out: float = 0.05
    name: str = ""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("a recipe needs at least one method", allowed=", ".join(method_names()))
        if not 0 < self.hold_out < 1:
            raise ConfigError("hold_out is out of range", got=self.hold_out, allowed="above 0 and below 1")
        stages = [m.stage for m in self.methods]
        if "values" in stages and "structure" in stages[stages.index("values") :]:
            raise ConfigError(
                "a method that changes the structure stands after one that chooses values, and would undo it",
                got=", ".join(f"{method_name(m)} ({m.stage})" for m in self.methods),
                allowed="structure first, then values",
                remedy="change the order",
            )
        if not self.name:
            object.__setattr__(self, "name", "+".join(method_name(m) for m in self.methods))

    @property
    def structured(self) -> int:
        """How many methods, from the first on, it takes until the structure stands; at least 1."""
        return max((n for n, m in enumerate(self.methods, start=1) if m.stage == "structure"), default=1)

    @classmethod
    def read(cls, source: str | Path | Mapping[str, Any] | Method | Recipe) -> Recipe:
        """A recipe from a method, a method's name, the name of one of ``recipes/``, a YAML or JSON file, or a mapping.

        Raises:
            UnknownNameError: Neither a method nor a recipe nor a file has the name.
            ConfigError: The file cannot be read or holds something else.
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Method):
            return cls(methods=(source,))
        if isinstance(source, Mapping):
            return cls._from_mapping(source, owner="the recipe")
        text = str(source)
        if text in method_names():
            return cls(methods=(find_method(text)(),))
        path = BUNDLED / f"{text}.yaml" if text in recipe_names() else Path(text)
        if path.suffix not in (".yaml", ".yml", ".json") and not path.is_file():
            raise UnknownNameError("recipe", text, (*method_names(), *recipe_names()), remedy=_recipe_remedy(text))
        try:
            loaded = read_yaml(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"the recipe {text} cannot be read", got=str(error)) from error
        if not isinstance(loaded, Mapping):
            raise ConfigError(
                f"the recipe {text} is no mapping", got=type(loaded).__name__, allowed="keys " + ", ".join(_KEYS)
            )
        return cls._from_mapping(loaded, owner=f"the recipe {text}")

    @classmethod
    def _from_mapping(cls, values: Mapping[str, Any], *, owner: str) -> Recipe:
        for key in values:
            if key not in _KEYS:
                raise UnknownNameError(f"key of {owner}", str(key), _KEYS)
        steps = values.get("methods")
        if not isinstance(steps, list) or not steps:
            raise ConfigError(f"{owner} needs a list of methods", got=repr(steps), allowed="such as [ahosvd]")
        given: dict[str, Any] = {"methods": tuple(_method(step, owner) for step in steps)}
        if "training" in values:
            given["training"] = _training(values["training"], owner)
        if "distill" in values:
            given["distill"] = _distillation(values["distill"], owner)
        if "hold_out" in values:
            given["hold_out"] = coerce(values["hold_out"], float, where=f"{owner}: hold_out")
        if "name" in values:
            given["name"] = coerce(values["name"], str, where=f"{owner}: name")
        return cls(**given)

    def with_settings(self, settings: Iterable[str] | Mapping[str, Any]) -> Recipe:
        """A copy with fields set: ``ranks=35,3,3``, ``training.epochs=1``, ``distill.alpha=.5``, ``ahosvd.ranks=...``.

        A bare name is looked for in the methods first, then in ``training``, then in ``distill``.

        Raises:
            UnknownNameError: Nothing has such a field.
            ConfigError: The value has the wrong type.
        """
        pairs = list(settings.items()) if isinstance(settings, Mapping) else [parse_assignment(s) for s in settings]
        recipe = self
        for name, value in pairs:
            recipe = recipe._with(name, value)
        return recipe

    def _with(self, name: str, value: Any) -> Recipe:
        owner, dot, rest = name.partition(".")
        if name in ("training", "distill", "hold_out", "name"):
            if name == "training":
                return dataclasses.replace(self, training=_training(value, "--set"))
            if name == "distill":
                return dataclasses.replace(self, distill=_distillation(value, "--set"))
            hint: Any = float if name == "hold_out" else str
            return dataclasses.replace(self, **{name: coerce(value, hint, where=name)})
        if dot and owner == "training":
            return dataclasses.replace(self, training=_updated_plan(self.training, {rest: value}))
        if dot and owner == "distill":
            current = all_fields(self.distill) if self.distill is not None else {}
            return dataclasses.replace(self, distill=_distillation({**current, rest: value}, "--set"))
        labels = [method_name(m) for m in self.methods]
        if dot and owner in labels:
            return self._with_method_field(labels.index(owner), rest, value)
        for index, method in enumerate(self.methods):
            if name in _field_names(method):
                return self._with_method_field(index, name, value)
        if name in _field_names(self.training):
            return self._with(f"training.{name}", value)
        if name in _field_names(Distillation):
            return self._with(f"distill.{name}", value)
        known = {n for m in self.methods for n in _field_names(m)} | set(_field_names(self.training))
        raise UnknownNameError(f"field of {self.name}", name, known | set(_field_names(Distillation)) | {"hold_out"})

    def _with_method_field(self, index: int, name: str, value: Any) -> Recipe:
        method = self.methods[index]
        changed = construct(type(method), {**all_fields(method), name: value}, owner=method_name(method))
        return dataclasses.replace(self, methods=(*self.methods[:index], changed, *self.methods[index + 1 :]))

    def as_dict(self) -> dict[str, Any]:
        """Every field, defaults too, as YAML and JSON know them; ``read`` gives an equal recipe back."""
        return {
            "name": self.name,
            "methods": [{method_name(m): all_fields(m)} for m in self.methods],
            "training": plain(self.training.as_dict()),
            "distill": None if self.distill is None else all_fields(self.distill),
            "hold_out": self.hold_out,
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.as_dict(), sort_keys=False, default_flow_style=None, width=120)


def _method(step: Any, owner: str) -> Method:
    if isinstance(step, str):
        return find_method(step)()
    if isinstance(step, Method):
        return step
    if isinstance(step, Mapping) and len(step) == 1:
        [(name, values)] = step.items()
        return construct(find_method(str(name)), _mapping(values or {}, f"{owner}: {name}"), owner=str(name))
    raise ConfigError(f"{owner}: a method reads NAME or NAME: {{field: value}}", got=repr(step))


def _training(value: Any, owner: str) -> TrainingPlan:
    if isinstance(value, TrainingPlan):
        return value
    if isinstance(value, str):
        return training_preset(value)
    return _updated_plan(default_training(), _mapping(value, f"{owner}: training"))


def _distillation(value: Any, owner: str) -> Distillation | None:
    if value is None or isinstance(value, Distillation):
        return value
    if isinstance(value, str):
        return None if value == "none" else Distillation.preset(value)
    return construct(Distillation, _mapping(value, f"{owner}: distill"), owner="distill")


def _updated_plan(plan: TrainingPlan, values: Mapping[str, Any]) -> TrainingPlan:
    return TrainingPlan.from_dict({**plan.as_dict(), **values})


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping", got=repr(value), allowed="{field: value, ...}")
    return value


def _field_names(cls_or_instance: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls_or_instance)]


def _recipe_remedy(text: str) -> str | None:
    from netpress.errors import nearest

    close = nearest(text, (*method_names(), *recipe_names()))
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return "give a method's name, a recipe's (netpress methods lists both) or the path of a YAML file"
