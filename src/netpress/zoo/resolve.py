"""What the command line's NET stands for: a name of the zoo, of torchvision, of timm, or a file of the user's."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from torch import nn

from netpress.errors import ConfigError, NetpressError, UnknownNameError
from netpress.zoo.catalog import build, check_classes, entry, names, seeded
from netpress.zoo.entry import NetworkInfo
from netpress.zoo.pretrained import PRETRAINED
from netpress.zoo.vision import timm_network, torchvision_network
from netpress.zoo.weights import find_weights, load_weights


def resolve(
    spec: str,
    *,
    classes: int | None = None,
    seed: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
    root: str | Path | None = None,
) -> tuple[nn.Module, NetworkInfo]:
    """The network that ``spec`` stands for, in eval mode.

    Args:
        spec: A name of the zoo (``resnet20``); a name of `PRETRAINED`, which brings its weights
            (``cifar10_resnet20_akamaster``); ``torchvision:NAME`` or ``timm:NAME``, with fresh weights; or
            ``FILE.py:CALLABLE``, which is called without arguments, returns an ``nn.Module``, and may carry an
            attribute ``input_shape``. **The file is run**: name only files that you would run.
        classes: Width of the output; None takes the network's own. Not for a file, whose callable decides.
        seed: Makes fresh weights a function of it.
        input_shape: (C, H, W); None takes the network's own, where it is known.
        weights: A safetensors file, or a name in ``root``, to load. If the name is one of `PRETRAINED`, its
            preprocessing comes with it.
        root: The folder of weights; None takes the environment variable NETPRESS_WEIGHTS.

    Raises:
        UnknownNameError: nothing answers to the name.
        ConfigError: a malformed spec, file, callable or shape.
        MissingExtraError: torchvision or timm is asked for and not installed.
        WeightsError: weights that do not fit.
    """
    if classes is not None:
        check_classes(classes)
    if weights is None and spec in PRETRAINED:
        weights = spec
    # The file of weights is looked for first: a wrong name should not cost the time to build a large network.
    path = None if weights is None else find_weights(weights, root)
    with seeded(seed):
        network, info = _build(spec, classes)
    if path is not None:
        load_weights(network, path)
        if path.stem in PRETRAINED:
            info = replace(info, preprocess=copy.deepcopy(PRETRAINED[path.stem].preprocess))
    if input_shape is not None:
        info = replace(info, input_shape=_checked_shape(input_shape, "input_shape"))
    return network.eval(), info


def _build(spec: str, classes: int | None) -> tuple[nn.Module, NetworkInfo]:
    source, colon, name = spec.partition(":")
    if colon and source in _LIBRARIES:
        return _LIBRARIES[source](name, classes)
    if spec.endswith(".py") or ".py:" in spec:
        return _from_file(spec, classes)
    if colon:
        raise ConfigError(
            "a network from an unknown source",
            got=repr(spec),
            allowed="a name of the zoo, torchvision:NAME, timm:NAME, FILE.py:CALLABLE",
        )
    known = spec if spec not in PRETRAINED else PRETRAINED[spec].network
    if known not in names():
        raise UnknownNameError("network", spec, [*names(), *PRETRAINED])
    found = entry(known)
    outputs = found.classes if classes is None else classes
    return build(known, classes=outputs), NetworkInfo(
        name=spec, input_shape=found.input_shape, classes=outputs, preprocess=found.preprocess
    )


_LIBRARIES: dict[str, Callable[[str, int | None], tuple[nn.Module, NetworkInfo]]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
}


def _from_file(spec: str, classes: int | None) -> tuple[nn.Module, NetworkInfo]:
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ConfigError("a file without a callable", got=repr(spec), allowed="FILE.py:CALLABLE")
    if classes is not None:
        raise ConfigError(
            "classes cannot be set for a network from a file",
            got=f"classes={classes} for {spec}",
            remedy="let the callable build the network with that many",
        )
    path = Path(file)
    if not path.is_file():
        raise ConfigError("no such file", got=repr(file), allowed="FILE.py:CALLABLE")
    module = _run_file(path)
    public = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if name not in vars(module):
        raise UnknownNameError(f"callable in {path.name}", name, public)
    factory = vars(module)[name]
    if not callable(factory):
        raise ConfigError(f"{name} in {path.name} cannot be called", got=type(factory).__name__, allowed="a callable")
    network = _called(factory, spec)
    shape = getattr(factory, "input_shape", None)
    return network, NetworkInfo(
        name=spec,
        input_shape=None if shape is None else _checked_shape(shape, f"the input_shape of {spec}"),
        classes=None,
        preprocess=None,
    )


def _run_file(path: Path) -> ModuleType:
    """The user's file as a module, under a name that cannot shadow another module."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"netpress_file_{digest}", path)
    if spec is None or spec.loader is None:
        raise ConfigError("the file cannot be imported", got=repr(str(path)), allowed="a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and the like look their module up while it is being run.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except NetpressError:
        raise
    except Exception as error:  # whatever the user's code raises is the user's to read
        raise ConfigError(f"{path.name} failed while it was imported", got=_described(error)) from error
    return module


def _called(factory: Callable[[], object], spec: str) -> nn.Module:
    try:
        network = factory()
    except NetpressError:
        raise
    except Exception as error:  # as above
        raise ConfigError(
            f"{spec} failed when it was called without arguments",
            got=_described(error),
            remedy="give every parameter of the callable a default",
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{spec} does not return a network", got=type(network).__name__, allowed="a torch.nn.Module")
    return network


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _checked_shape(shape: object, what: str) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else ()
    if not sizes or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ConfigError(f"{what} is not a shape", got=repr(shape), allowed="positive integers, such as (3, 32, 32)")
    return sizes
