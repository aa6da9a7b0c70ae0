"""Integers: weights of a few bits with a scale a channel, and values on grids, as integer kernels compute them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from netpress.errors import ConfigError, UnknownNameError
from netpress.graph import GraphNetwork, fold_norms, without_identities
from netpress.maths.ranges import OBSERVERS, Observer
from netpress.pipeline.backends import BACKENDS, lacks_vnni, wide_linear_layers
from netpress.pipeline.constraints import Constraint, ValuesHeld
from netpress.pipeline.integer_points import integer_points
from netpress.pipeline.integers import (
    correct_biases,
    observe,
    round_weights,
    train_on_grids,
    with_measured_values,
    with_rounded_values,
)
from netpress.pipeline.job import Job
from netpress.pipeline.values import ValueMethod, layers_of

MATRICES = (nn.Conv1d, nn.Conv2d, nn.Linear)
SCHEMES = ("static", "qat", "dynamic", "weights")


@dataclass(frozen=True, kw_only=True)
class Quantize(ValueMethod):
    """Puts weights and values on grids of 8 bits or fewer, so that a runtime may compute with integers.

    Idea: batch normalisations are folded; weights w become s·q, q symmetric about 0 and s the step of their row with the least
    squared error; values become s·(q - z), q from 0 on, where a layer reads them and where a layer's output goes into a sum. Ranges
    and corrections of biases are measured on images without labels. With ``scheme: qat``, or with epochs, the network is trained
    straight through the rounding (quantization-aware training); ranges then stay as they are.
    With ``scheme: dynamic`` no range is fixed: what a linear layer reads is rounded to 8 bits of the range that it has in this very
    run, over the whole tensor, so that an input's answer depends a little on the batch that it comes in. Nothing has to be
    measured beforehand, and inputs of another range than the images' cost nothing; networks of linear layers gain most.
    Convolutions then get weights on grids alone: in ONNX Runtime 1.32, one thread of a processor with VNNI, a dynamic ConvInteger
    took 4 to 23 times as long as the same convolution in float, a dynamic linear layer of 784 x 300 two thirds, of four million
    weights and more a third or less.
    Helps: everywhere as the measure of all else: 8 bits cost next to nothing in accuracy and a quarter of the bytes, and are what
    integer kernels are fast with; behind any method that changes the structure, and behind ``prune``.
    Fails: below 4 bits without training; one step for all rows (``per_channel: false``) where channels differ widely, as those of
    depthwise convolutions do. Here, values are rounded in float: it is a runtime of integers that gains speed. Behind ``share``
    nothing is shared any more, before it the integers are lost.
    For exporters: ``maths.row_grids.row_steps(weight)`` gives each row's scale and its int8 levels back, to the bit; a node
    ``fake_quantize`` is QuantizeLinear and DequantizeLinear of ONNX with the same scale (as float32) and zero point, to uint8 where
    quant_min is 0; biases stay float32, and are rounded to multiples of the input's scale times the row's. A node
    ``dynamic_quantize`` is DynamicQuantizeLinear; the layers behind it are MatMulInteger, their biases added in float.
    Backends: one network of integers runs in all runtimes, and what each gains by differs in a few places, which ``backend`` sees to.
    ``onnxruntime`` computes a convolution with integers only where what it gives is rounded, too, before a pooling as well.
    ``openvino`` has no kernels for dynamic ranges, ``executorch`` none for linear layers over several axes: these stay in float.
    ``onnxruntime``, ``openvino`` and ``torch-compile`` saturate on x86 processors without VNNI, see ``reduce_range``.
    Source: Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342; Nagel et al., arXiv 1906.04721 (biases).

    Attributes:
        scheme: ``static`` (weights and values, ranges fixed beforehand), ``qat`` (the same, then trained), ``dynamic`` (weights, and
            what linear layers read, ranges measured at each run) or ``weights`` (weights alone).
        bits: Of weights, 2 to 8.
        activation_bits: Of values, 2 to 8; 8 where they are dynamic.
        per_channel: Whether each row of a weight, an output channel, has a step of its own; else one for the whole weight.
        reduce_range: Weights of one bit less: on x86 processors without VNNI, sums of two products of 8 bits overflow 16 bits, and
            saturate. None: where that may be, 8 bits on either side, on such a processor as this machine's, with such kernels as the
            backend's; ``true`` where the network is to run on another machine that may have one.
        observer: How values' fixed ranges are chosen: ``mse`` (least squared error), ``minmax``, or ``percentile`` (99.99 %).
        samples: Calibration images, rounded up to whole batches of 64.
        correct: Whether biases make good what rounding adds to the mean of a channel.
        whole: Layers that stay in float, by dotted name or by the beginning of several.
        epochs: Passes of training straight through the rounding; None takes the recipe's, as does 0 with ``qat``.
        lr: Peak learning rate of that training, which has no normalisations to steady it; None takes the recipe's.
        backend: The runtime that it is for, by its name in ``bench latency``; ``any``: what all of them take.
    """

    scheme: Literal["static", "qat", "dynamic", "weights"] = "static"
    bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    reduce_range: bool | None = None
    observer: Observer = "mse"
    samples: int = 512
    correct: bool = True
    whole: tuple[str, ...] = ()
    epochs: int | None = 0
    lr: float | None = 0.002
    backend: Literal["any", "onnxruntime", "openvino", "torch-compile", "executorch"] = "any"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme not in SCHEMES:
            raise ConfigError("unknown scheme", got=repr(self.scheme), allowed=", ".join(SCHEMES))
        if self.backend not in BACKENDS:
            raise ConfigError("unknown backend", got=repr(self.backend), allowed=", ".join(BACKENDS))
        if self.scheme == "dynamic" and not BACKENDS[self.backend].dynamic:
            raise ConfigError(
                f"{self.backend} computes values of dynamic ranges in float",
                got="scheme='dynamic'",
                allowed="static, qat, weights",
                remedy="scheme=static, which is faster there, or scheme=weights, which is smaller only",
            )
        if self.observer not in OBSERVERS:
            raise ConfigError("unknown observer", got=repr(self.observer), allowed=", ".join(OBSERVERS))
        for name, bits in (("bits", self.bits), ("activation_bits", self.activation_bits)):
            if not 2 <= bits <= 8:
                raise ConfigError(f"{name} is out of range", got=bits, allowed="2 to 8")
        if self.scheme == "dynamic" and self.activation_bits != 8:
            raise ConfigError("dynamic values have 8 bits", got=f"activation_bits={self.activation_bits}", allowed=8)
        if self.reduce_range and self.bits < 3:
            raise ConfigError("reduce_range leaves no bits", got=f"bits={self.bits}", allowed="3 to 8 bits")
        if self.samples < 1:
            raise ConfigError("samples is out of range", got=self.samples, allowed="1 or more")

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        epochs = self.epochs or None if self.scheme == "qat" else self.epochs
        if self.scheme == "qat" and (job.training.epochs if epochs is None else epochs) == 0:
            raise ConfigError(
                "qat trains the network, and there are no epochs",
                got="epochs 0, of quantize and of the recipe",
                remedy="set epochs of quantize or of the training, or take scheme=static",
            )
        reference = without_identities(fold_norms(network))
        names = self._chosen(reference)
        held = {id(reference.get_parameter(name)) for name in names}
        layers = {n for n, m in reference.named_modules() if isinstance(m, MATRICES) and id(m.weight) in held}
        rounded = copy.deepcopy(reference)
        steps = round_weights(rounded, names, self._most, per_row=self.per_channel)
        backend, values = BACKENDS[self.backend], 0
        wide = set() if backend.wide_linear or self.scheme == "weights" else wide_linear_layers(reference, layers)
        if self.scheme in ("static", "qat"):
            points = integer_points(reference, layers - wide, conv_outputs=backend.conv_outputs)
            ranges = observe(reference, job, points, self.samples) if points else {}
            rounded = with_rounded_values(rounded, points, ranges, self.observer, self.activation_bits)
            values = len(points)
        elif self.scheme == "dynamic":
            linear = {name for name in layers - wide if isinstance(reference.get_submodule(name), nn.Linear)}
            rounded, values = with_measured_values(rounded, linear)
        if self.correct:
            correct_biases(reference, rounded, job, layers, self.samples)
        free = {name: reference.get_parameter(name) for name in names}
        train_on_grids(rounded, job, free, steps, self._most, epochs=epochs, lr=self.lr)
        told = f"{len(names)} weights on {2 * self._most + 1} levels{' a row' if self.per_channel else ''}"
        if self._reduced and self.reduce_range is None:
            told += " (one bit less, as sums saturate on this processor)"
        told += f", {values} values on {2**self.activation_bits}"
        if wide:
            told += f"; {len(wide)} linear layers read floats, as {self.backend} has no other kernels"
        job.progress.say(told)
        return rounded

    def constraints(self, network: GraphNetwork) -> tuple[Constraint, ...]:
        """Later trainings leave the weights on their grids."""
        return (ValuesHeld(self._chosen(network)),)

    @property
    def _most(self) -> int:
        """The largest level."""
        return 2 ** (self.bits - 1 - self._reduced) - 1

    @property
    def _reduced(self) -> bool:
        if self.reduce_range is not None:
            return self.reduce_range
        summed = self.scheme != "weights" and self.bits == self.activation_bits == 8  # of fewer bits, two products fit
        return summed and BACKENDS[self.backend].saturates and lacks_vnni()

    def _chosen(self, network: nn.Module) -> tuple[str, ...]:
        """The weights that are rounded.

        Raises:
            UnknownNameError: A name in ``whole`` that no layer has.
        """
        every = [n for n in layers_of(network, ("conv", "fc")) if isinstance(network.get_submodule(n.module), MATRICES)]
        for name in self.whole:
            if not any(layer.answers_to(name) for layer in every):
                raise UnknownNameError("layer in whole", name, {layer.module for layer in every})
        chosen = [n.name for n in every if not any(n.answers_to(name) for name in self.whole)]
        return tuple(n for n in chosen if network.get_parameter(n).dtype is torch.float32)
