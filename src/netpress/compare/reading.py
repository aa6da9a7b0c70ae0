"""Strict reading of YAML: every error names the file and the key it is about."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netpress.errors import ConfigError, UnknownNameError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Place:
    """A key in a file.

    Attributes:
        file: The file that is read.
        path: The way to the key, such as ``networks[0].weights``; empty at the top.
    """

    file: Path
    path: str = ""

    def key(self, name: object) -> Place:
        """The place of one key of the mapping here."""
        return Place(self.file, f"{self.path}.{name}" if self.path else str(name))

    def item(self, index: int) -> Place:
        """The place of one item of the list here."""
        return Place(self.file, f"{self.path}[{index}]")

    def __str__(self) -> str:
        return f"{self.file.name}: {self.path or 'the top level'}"

    def error(self, what: str, *, got: object = None, allowed: object = None, remedy: str | None = None) -> ConfigError:
        """A ConfigError that begins with this place."""
        return ConfigError(f"{self}: {what}", got=got, allowed=allowed, remedy=remedy)


class _UniqueKeyLoader(yaml.SafeLoader):
    """As safe as SafeLoader, but a key given twice is an error: plain YAML keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen and key_node.value != "<<":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_yaml(file: Path) -> Any:
    """The content of a YAML file, read without constructing any object but plain ones.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or gives a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError("the file cannot be read", got=f"{file} ({reason})", allowed="a YAML file") from error
    try:
        # _UniqueKeyLoader extends SafeLoader: no tag constructs anything but plain values.
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file.name} is no valid YAML", got=" ".join(str(error).split())) from error


def mapping(value: Any, place: Place, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """``value`` as a mapping with no other keys than ``allowed`` and all of ``required``; else ConfigError."""
    if not isinstance(value, Mapping):
        raise place.error("this must be a mapping", got=_show(value), allowed=f"keys {', '.join(allowed)}")
    for name in value:
        if name not in allowed:
            raise UnknownNameError(f"key {place.key(name).path!r} in {place.file.name}", str(name), allowed)
    for name in required:
        if name not in value:
            raise place.error(f"the key {name!r} is missing", got=", ".join(map(str, value)) or "no keys")
    return dict(value)


def free_mapping(value: Any, place: Place) -> dict[str, Any]:
    """``value`` as a mapping of texts to anything; absent is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise place.error("this must be a mapping of field: value", got=_show(value))
    return dict(value)


def sequence(value: Any, place: Place) -> list[Any]:
    """``value`` as a list with at least one item; else ConfigError."""
    if not isinstance(value, list) or not value:
        raise place.error("this must be a list with at least one item", got=_show(value))
    return value


def text(value: Any, place: Place) -> str:
    """``value`` as a text that is not blank; else ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise place.error("this must be a text", got=_show(value))
    return value


def whole(value: Any, place: Place, *, least: int) -> int:
    """``value`` as an integer of at least ``least``; else ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise place.error("this must be a whole number", got=_show(value), allowed=f"{least} or more")
    return value


def flag(value: Any, place: Place) -> bool:
    """``value`` as true or false; else ConfigError."""
    if not isinstance(value, bool):
        raise place.error("this must be true or false", got=_show(value))
    return value


def expand_variables(value: str, place: Place, variables: Mapping[str, str]) -> str:
    """``value`` with each ``${NAME}`` replaced.

    Raises:
        ConfigError: A variable that is not set or empty, or a ``${`` without its end.
    """

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if not variables.get(name):
            raise place.error(
                f"the variable {name!r} is not set", got=repr(value), remedy=f"set it first: export {name}=..."
            )
        return variables[name]

    expanded = _VARIABLE.sub(replace, value)
    if "${" in _VARIABLE.sub("", value):
        raise place.error("a variable is not closed", got=repr(value), allowed="${NAME}")
    return expanded


def resolve_path(value: str, place: Place, variables: Mapping[str, str]) -> Path:
    """A path as written in the file: variables replaced, relative to the file's own folder."""
    return place.file.parent / Path(expand_variables(value, place, variables)).expanduser()


def _show(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
