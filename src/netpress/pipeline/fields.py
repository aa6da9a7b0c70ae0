"""Frozen dataclasses from plain mappings: names and types checked, texts that teach."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml

from netpress.errors import ConfigError, UnknownNameError

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-3`` is a number, as in YAML 1.2; in YAML 1.1 it would be a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """What a YAML or JSON text says.

    Raises:
        yaml.YAMLError: It is neither.
    """
    return yaml.load(text, Loader=_Loader)


def construct(cls: type[T], values: Mapping[str, Any], *, owner: str) -> T:
    """Builds ``cls(**values)`` after checking names and types; lists become tuples.

    Raises:
        UnknownNameError: A field that ``cls`` does not have.
        ConfigError: A value of another type than the field's.
    """
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name not in names:
            raise UnknownNameError(f"field of {owner}", name, names)
        checked[name] = coerce(value, hints[name], where=f"{owner}.{name}")
    return cls(**checked)


def coerce(value: Any, hint: Any, *, where: str) -> Any:
    """The value as the type ``hint`` wants it: a list as a tuple, an int where a float is asked for; else ConfigError."""
    for option in _options(hint):
        ok, converted = _try(value, option)
        if ok:
            return converted
    raise ConfigError(f"{where} has the wrong type", got=f"{value!r} ({type(value).__name__})", allowed=_describe(hint))


def parse_assignment(text: str) -> tuple[str, Any]:
    """``"ranks=[35,3,3]"`` or ``"ranks=35,3,3"`` as ("ranks", [35, 3, 3]).

    Raises:
        ConfigError: No ``=`` or a value that is not YAML.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ConfigError("a setting reads FIELD=VALUE", got=repr(text), allowed="such as --set ranks=35,3,3")
    try:
        parsed = read_yaml(value)
        if isinstance(parsed, str) and "," in parsed:
            parsed = [read_yaml(piece) for piece in parsed.split(",") if piece.strip()]
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {name.strip()!r} cannot be read", got=repr(value), allowed="YAML") from error
    return name.strip(), parsed


def plain(value: Any) -> Any:
    """Dataclass values as YAML and JSON know them: tuples as lists, nested."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return value


def changed_fields(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as plain values."""
    out = {}
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value != default:
            out[f.name] = plain(value)
    return out


def all_fields(instance: Any) -> dict[str, Any]:
    """All fields of a dataclass, as plain values."""
    return {f.name: plain(getattr(instance, f.name)) for f in dataclasses.fields(instance)}


def _options(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _try(value: Any, hint: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(hint)
    if hint is type(None):
        return value is None, value
    if hint is Any:
        return True, value
    if origin is typing.Literal:
        return value in typing.get_args(hint), value
    if origin is tuple:
        arguments = typing.get_args(hint)
        items = list(value) if isinstance(value, list | tuple) else [value]
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(items)
        if len(arguments) != len(items):
            return False, None
        tried = [_try(item, argument) for item, argument in zip(items, arguments, strict=True)]
        return all(ok for ok, _ in tried), tuple(v for _, v in tried)
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        return isinstance(value, Mapping), value
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool), float(value) if _is_number(
            value
        ) else value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    return isinstance(value, hint), value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _describe(hint: Any) -> str:
    names = []
    for option in _options(hint):
        if typing.get_origin(option) is typing.Literal:
            names.append(", ".join(map(repr, typing.get_args(option))))
        elif option is type(None):
            names.append("null")
        elif typing.get_origin(option) is tuple:
            inner = ", ".join("..." if a is Ellipsis else a.__name__ for a in typing.get_args(option))
            names.append(f"list of ({inner})")
        else:
            names.append(getattr(option, "__name__", str(option)))
    return " or ".join(names)
