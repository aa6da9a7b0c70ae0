"""What a method is, and how methods are found by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from netpress.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from netpress.graph import GraphNetwork
    from netpress.pipeline.constraints import Constraint
    from netpress.pipeline.job import Job
    from netpress.training import Objective

FOLDER = "netpress.methods"
ENTRY_POINTS = "netpress.methods"


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """One way to make a network smaller.

    A subclass is a frozen, keyword-only dataclass: its fields are its whole configuration, its docstring is the method's card.
    Fields are validated in ``__post_init__``, so that a wrong one is an error before any work starts.
    """

    #: Where in the pipeline the method stands: ``structure`` changes which tensors there are, ``values`` which numbers they may
    #: hold, ``baseline`` neither. After structure and baseline methods the pipeline trains the whole network; a values method
    #: trains it itself, with ``job.retrain``.
    stage: ClassVar[str] = "structure"

    @property
    def needs_labels(self) -> bool:
        """Whether its training asks for labels, whatever the recipe's distillation says."""
        return False

    @abstractmethod
    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        """The smaller network. ``network`` is the method's own copy; the teacher is ``job.teacher`` and stays as it is."""

    def constraints(self, network: GraphNetwork) -> tuple[Constraint, ...]:
        """What the trainings of later methods must keep of ``network``, which is what ``apply`` gave, traced."""
        return ()

    def objective(self, network: GraphNetwork, job: Job) -> Objective | None:
        """What the trainings after this method minimise in place of the recipe's objective, until another method changes the
        structure; None leaves what there is: the recipe's, if this method changes the structure. ``network`` is what ``apply`` gave,
        traced. Methods that choose values are not asked."""
        return None


@cache
def method_names() -> tuple[str, ...]:
    """The public names of all methods, this package's and those of installed plug-ins; imports none of them."""
    folder = importlib.import_module(FOLDER)
    own = [m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_")]
    return tuple(sorted({*own, *_plugins()}))


def find_method(name: str) -> type[Method]:
    """The method class of a public name.

    Raises:
        UnknownNameError: No file in ``methods/`` and no plug-in has the name; the text names the nearest.
        ConfigError: A plug-in that is no method.
    """
    if name not in method_names():
        raise UnknownNameError("method", name, method_names(), remedy=None)
    plugins = _plugins()
    if name in plugins:
        found = plugins[name].load()
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ConfigError(
                f"the plug-in {name!r} is no method", got=repr(found), allowed="a subclass of netpress.Method"
            )
        return found
    module = importlib.import_module(f"{FOLDER}.{name}")
    classes = [
        c
        for c in vars(module).values()
        if inspect.isclass(c)
        and issubclass(c, Method)
        and c.__module__ == module.__name__
        and not inspect.isabstract(c)
    ]
    if len(classes) != 1:
        raise ConfigError(f"the file methods/{name}.py must define one method", got=f"{len(classes)} of them")
    return classes[0]


def method_name(method: Method | type[Method]) -> str:
    """The public name of a method or method class: the name of its file, or of its plug-in."""
    cls = method if inspect.isclass(method) else type(method)
    for name, point in _plugins().items():
        if point.value == f"{cls.__module__}:{cls.__qualname__}":
            return name
    return cls.__module__.rpartition(".")[2]


def field_docs(cls: type[Method]) -> dict[str, str]:
    """What each field means, by name: the ``Attributes`` of the class's docstring, and of its bases' for what they bring."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(base) or "", re.MULTILINE)
        for entry in re.finditer(r"^    (\w+): (.*(?:\n     +.*)*)", section.group(1) if section else "", re.MULTILINE):
            docs[entry.group(1)] = " ".join(entry.group(2).split())
    return docs


@cache
def _plugins() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
