"""The zoo's networks by name: the folder ``families`` is listed on first use."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from netpress.errors import ConfigError, UnknownNameError
from netpress.zoo import families
from netpress.zoo.entry import Entry


@cache
def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for file in pkgutil.iter_modules(families.__path__):
        for each in importlib.import_module(f"{families.__name__}.{file.name}").ENTRIES:
            if each.name in found:
                raise ConfigError("two networks of the zoo claim one name", got=repr(each.name))
            found[each.name] = each
    return found


def names() -> list[str]:
    """The names of the zoo's networks, sorted.

    CIFAR's own networks and VGG take 32-px images unless ``_224`` is in the name; ``resnet18`` to ``resnet152`` and
    ``mobilenet_v2`` take 224-px images unless ``_32`` is.
    """
    return sorted(_entries())


def entry(name: str) -> Entry:
    """What the zoo knows of one network.

    Raises:
        UnknownNameError: no network has that name; the text names the nearest.
    """
    known = _entries()
    if name not in known:
        raise UnknownNameError("network", name, known)
    # The preprocess dict is the caller's to change; the zoo's is not.
    return dataclasses.replace(known[name], preprocess=copy.deepcopy(known[name].preprocess))


def build(name: str, *, classes: int | None = None, seed: int | None = None) -> nn.Module:
    """A freshly initialised network of the zoo, in training mode.

    Args:
        name: One of `names`.
        classes: Width of the output; None takes the entry's own.
        seed: Makes the initial weights a function of it, and leaves the global generator as it was; None draws them
            from the global generator.

    Raises:
        UnknownNameError: no network has that name.
        ConfigError: ``classes`` is not a positive integer, or ``seed`` a negative one.
    """
    found = entry(name)
    outputs = found.classes if classes is None else classes
    check_classes(outputs)
    with seeded(seed):
        return found.build(outputs)


def check_classes(classes: int) -> None:
    """Raises ConfigError unless ``classes`` is a positive integer."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ConfigError("classes is not a number of classes", got=repr(classes), allowed="an integer of at least 1")


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Inside, random numbers of the CPU follow from ``seed``; afterwards the generator is as before. None: nothing.

    Raises:
        ConfigError: ``seed`` is negative or no integer.
    """
    if seed is None:
        yield
        return
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError("seed is not a seed", got=repr(seed), allowed="an integer from 0 to 2**63 - 1")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
