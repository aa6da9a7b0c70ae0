"""What the methods that change values, not structure, have in common: which tensors they change, and that zeros stay zeros.

choose layers     by kind (conv, fc, embedding, bias) or by name; each gets its own setting
change weights    the method's own part, in place: a mask, a codebook
retrain           ``job.retrain`` with the method's constraints and those of the methods before it
later training    the same constraints again, from ``Method.constraints``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, UnknownNameError
from netpress.pipeline.method import Method

V = TypeVar("V", int, float)

#: The kinds of layers, by the class of the module; ``bias``: the vectors beside them, biases and the scales and shifts of norms.
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "fc": (nn.Linear,),
    "embedding": (nn.Embedding,),
}


@dataclass(frozen=True)
class Layer:
    """A tensor whose values may be changed.

    Attributes:
        name: Dotted name of the parameter, such as ``features.0.weight``.
        module: Dotted name of its module, which is what users write.
        kind: A key of ``KINDS``, or ``bias``.
    """

    name: str
    module: str
    kind: str

    def answers_to(self, name: str) -> bool:
        """Whether a user who writes ``name`` means this tensor, alone or among others."""
        if self.kind == "bias":
            return name == self.name
        return name == self.module or self.module.startswith(name + ".")


@dataclass(frozen=True, kw_only=True)
class ValueMethod(Method):
    """A method that leaves the structure as it is and changes what the weights are.

    Attributes:
        epochs: Passes of the retraining that follows at once, with what the method made kept; None takes the recipe's.
        lr: Peak learning rate of that retraining; None takes the recipe's.
    """

    stage: ClassVar[str] = "values"

    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 0:
            raise ConfigError("epochs is out of range", got=self.epochs, allowed="0 or more, or None")
        if self.lr is not None and not self.lr > 0:
            raise ConfigError("lr is out of range", got=self.lr, allowed="above 0, or None")


def layers_of(network: nn.Module, kinds: Sequence[str] = tuple(KINDS)) -> tuple[Layer, ...]:
    """The tensors of these kinds, in the network's order; a tensor that two modules share comes once, at its first place."""
    found: dict[int, Layer] = {}
    for module_name, module in network.named_modules():
        kind = next((k for k, classes in KINDS.items() if isinstance(module, classes)), None)
        for name, parameter in module.named_parameters(recurse=False):
            of_kind = kind if kind is not None and name == "weight" else "bias" if parameter.dim() == 1 else None
            if of_kind in kinds:
                full = f"{module_name}.{name}" if module_name else name
                found.setdefault(id(parameter), Layer(full, module_name, str(of_kind)))
    return tuple(found.values())


def choose(
    network: nn.Module, general: V, by_kind: Mapping[str, V | None], by_layer: Mapping[str, V]
) -> dict[Layer, tuple[V, str]]:
    """The setting of each layer: by the longest dotted prefix in ``by_layer``, else its kind's, else ``general``.

    Args:
        general: What holds where nothing else is said.
        by_kind: None where ``general`` holds; kinds that are missing are not touched at all.
        by_layer: Settings by a module's dotted name, or by the beginning of several (``features`` for ``features.0``); a vector
            is named in full, such as ``features.0.bias``.

    Returns:
        The setting and where it came from: the key in ``by_layer``, the kind, or ``""`` for the general one.

    Raises:
        UnknownNameError: A name in ``by_layer`` that no layer has; the text names the nearest.
    """
    layers = layers_of(network, tuple(by_kind))
    for name in by_layer:
        if not any(layer.answers_to(name) for layer in layers):
            known = {layer.name if layer.kind == "bias" else layer.module for layer in layers}
            raise UnknownNameError("layer in by_layer", name, known)
    chosen: dict[Layer, tuple[V, str]] = {}
    for layer in layers:
        fitting = [name for name in by_layer if layer.answers_to(name)]
        own = by_kind[layer.kind]
        if fitting:
            name = max(fitting, key=len)
            chosen[layer] = by_layer[name], name
        else:
            chosen[layer] = (general, "") if own is None else (own, layer.kind)
    return chosen


def checked_names(by_layer: Mapping[str, object], type_: type, allowed: str) -> None:
    """Raises ConfigError where a mapping by layer holds anything but names and numbers of the type."""
    for name, value in by_layer.items():
        fits = isinstance(value, int if type_ is int else int | float) and not isinstance(value, bool)
        if not isinstance(name, str) or not fits:
            raise ConfigError(
                "by_layer has a wrong entry", got=repr({name: value}), allowed=f"a layer's name: {allowed}"
            )


@dataclass
class ZerosKept:
    """Constraint: weights that are 0 when the gradients are there are 0 after the step, whatever momentum and decay say.

    Attributes:
        names: Dotted names of the parameters.
    """

    names: tuple[str, ...]
    _zeros: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)  # of the running step

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Zero gradients for zero weights: they are no part of the norm that is clipped, nor of momentum."""
        self._zeros.clear()
        for name in self.names:
            parameter = network.get_parameter(name)
            if parameter.grad is not None:
                self._zeros[name] = parameter.detach() == 0
                parameter.grad.masked_fill_(self._zeros[name], 0.0)

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        for name, zeros in self._zeros.items():
            network.get_parameter(name).masked_fill_(zeros, 0.0)
