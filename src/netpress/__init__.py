"""netpress: press a neural network until it fits, and know what it cost.

::

    import netpress

    result = netpress.compress(network, "ahosvd", "digits", "params=40%")
    result.save("small.netpress")
    network = netpress.load("small.netpress")

Everything in ``__all__`` is public. Each name is imported when it is first used, so that ``import netpress`` takes
milliseconds and brings no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from netpress._version import __version__

if TYPE_CHECKING:  # what type checkers and editors read; ``tests/test_package.py`` holds it equal to the tables below
    from netpress import data, errors, graph, layers, maths, measure, methods, training, zoo
    from netpress.artifact import inspect, load, save
    from netpress.data import Data, Preprocess, Split, open_data
    from netpress.errors import NetpressError
    from netpress.graph import GraphNetwork, trace
    from netpress.measure import cost, quality
    from netpress.pipeline import Budget, Job, Method, Recipe, find_method, method_names, open_network
    from netpress.pipeline.compress import Result, compress  # by its own module: mypy takes pipeline's for the module
    from netpress.training import Distillation, TrainingPlan

__all__ = [
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

_MODULES = frozenset({"data", "errors", "graph", "layers", "maths", "measure", "methods", "training", "zoo"})
_HOMES = {
    "artifact": ("inspect", "load", "save"),
    "data": ("Data", "Preprocess", "Split", "open_data"),
    "errors": ("NetpressError",),
    "graph": ("GraphNetwork", "trace"),
    "measure": ("cost", "quality"),
    "pipeline": (
        "Budget",
        "Job",
        "Method",
        "Recipe",
        "Result",
        "compress",
        "find_method",
        "method_names",
        "open_network",
    ),
    "training": ("Distillation", "TrainingPlan"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"netpress.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'netpress' has no attribute {name!r}; public are: {', '.join(__all__)}")
    found = getattr(importlib.import_module(f"netpress.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
