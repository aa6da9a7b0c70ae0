"""One pass through a network that puts every tensor on its grid, layer after layer.

The original and the quantized network run side by side, as two halves of one batch. Before a layer runs on the quantized half its
levels are chosen, for the inputs that the layers before it, already quantized, really give, so that each layer makes good what it can
of the errors before it: it minimises |W X - Q Y|² for the original inputs X and the quantized ones Y. Biases take up what is left of
the mean, and the scale and shift of a batch normalisation what is left by least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpress.graph import GraphNetwork
from netpress.kernels import adaptive
from netpress.maths.compensation import MOST_LEVEL, Choice, Curvature, Floats, Levels, choose_levels, nearest_levels
from netpress.maths.rate_distortion import fine_step, grid_step, on_grid
from netpress.pipeline.layer_columns import MATRIX_LAYERS
from netpress.pipeline.rdo_statistics import grams

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
STEPS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # for each layer, times the step that a fine quantizer would have
RIDGE = 0.1  # share of the mean curvature that keeps weights near where they were
MOST_COLUMNS = 6000  # wider layers are not compensated: their Gram matrix would take too much memory
SMALL = 64  # tensors of fewer values are rounded: prices of so few levels are not worth learning
VECTOR_STEP = 0.5  # vectors are finer than their own sensitivity asks for: their errors add up over all places


@dataclass(frozen=True, eq=False)
class Quantized:
    """One tensor on its grid.

    Attributes:
        levels: (rows, columns) int32.
        bits: Estimated.
        distortion: Estimated, in nats.
    """

    levels: Levels
    step: float
    bits: float
    distortion: float
    shape: tuple[int, ...]

    def values(self) -> Tensor:
        """The tensor, float32."""
        return torch.from_numpy(on_grid(self.levels, self.step)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one pass chose.

    Attributes:
        tradeoff: It was made for.
        tensors: By parameter name.
        divergence: Mean KL divergence (for a regression half the squared difference) of the quantized network's answers from the
            original's on the calibration images.
    """

    tradeoff: float
    tensors: dict[str, Quantized]
    divergence: float

    @property
    def bits(self) -> float:
        return sum(t.bits for t in self.tensors.values())

    def put_into(self, network: nn.Module) -> None:
        """Writes the values into the parameters of those names."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                network.get_parameter(name).copy_(tensor.values())


@dataclass(eq=False)
class Pass:
    """The settings of a pass; ``run`` does it.

    Attributes:
        sensitivities: See ``rdo_statistics.sensitivities``.
        tradeoff: Nats that a bit may cost.
        compensate: False rounds each weight for itself, by rate and distortion, and corrects no bias.
        chosen: Names of the parameters that are quantized; the others stay.
        steps: Multiples of a fine quantizer's step, rising; a layer takes the best of those around the first good one.
    """

    network: GraphNetwork
    sensitivities: Mapping[str, Tensor]
    tradeoff: float
    chosen: frozenset[str]
    task: str = "classification"
    compensate: bool = True
    steps: tuple[float, ...] = STEPS
    found: dict[str, Quantized] = field(default_factory=dict)
    _by_tensor: dict[int, Quantized] = field(default_factory=dict)
    _samples: int = 0

    def run(self, images: Tensor) -> Outcome:
        """Chooses all levels; the network, in eval mode, is not changed."""
        self._samples = len(images)
        handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in self.network.named_modules()
            if not isinstance(module, GraphNetwork) and any(True for _ in module.parameters(recurse=False))
        ]
        try:
            with torch.no_grad():
                output = self.network(torch.cat([images, images]))
        finally:
            for handle in handles:
                handle.remove()
        for name, parameter in self.network.named_parameters():  # what no module's forward has met
            if name in self.chosen and name not in self.found:
                self.found[name] = self._vector(name, parameter.detach())
        return Outcome(self.tradeoff, dict(self.found), self._divergence(output))

    def _divergence(self, output: Tensor) -> float:
        first, second = output[: self._samples].double(), output[self._samples :].double()
        if self.task != "classification":
            return float((first - second).square().sum(1).mean() / 2)
        first, second = first.log_softmax(1), second.log_softmax(1)
        return float((first.exp() * (first - second)).sum(1).mean())

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def quantize(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return self._layer(name, module, inputs[0], output)

        return quantize

    def _layer(self, name: str, module: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """The output of both halves, the second of them quantized."""
        halves = (
            len(x) == len(output) == 2 * self._samples
        )  # else the batch is no longer the first axis: no compensation
        first, second = (x[: self._samples], x[self._samples :]) if halves else (x, x)
        wanted = output[: self._samples] if halves else output
        if isinstance(module, NORMS) and module.weight is not None:
            given = self._norm(name, module, second, wanted)
            return torch.cat([wanted, given]) if halves else given
        new: dict[str, Tensor] = {}
        for key, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{key}"
            if full in self.chosen and key != "bias":
                made = self._by_tensor.get(id(parameter))
                if made is None:
                    matrix = key == "weight" and isinstance(module, MATRIX_LAYERS) and self.compensate
                    if matrix and halves and parameter[0].numel() <= MOST_COLUMNS:
                        made = self._matrix(full, module, first, second)
                    else:
                        made = self._plain(full, parameter.detach())
                self._by_tensor[id(parameter)] = self.found[full] = made
                new[key] = made.values().to(parameter)
        if f"{name}.bias" in self.chosen:
            bias = module.get_parameter("bias").detach()
            if f"{name}.bias" not in self.found:
                shift = torch.zeros_like(bias)
                channels = 1 if isinstance(module, nn.Conv1d | nn.Conv2d) else wanted.dim() - 1
                if self.compensate and halves and isinstance(module, MATRIX_LAYERS):
                    away = wanted - _called(module, new, second)
                    shift = away.mean([axis for axis in range(away.dim()) if axis != channels])
                self.found[f"{name}.bias"] = self._vector(f"{name}.bias", bias + shift)
            new["bias"] = self.found[f"{name}.bias"].values().to(bias)
        given = _called(module, new, second)
        return torch.cat([wanted, given]) if halves else given

    def _matrix(self, name: str, module: nn.Module, first: Tensor, second: Tensor) -> Quantized:
        """A layer's weights, whose errors others of the same row make good; rows of several groups share one step."""
        weight = module.get_parameter("weight").detach()
        rows, places = len(weight), weight[0, 0].numel() if weight.dim() > 2 else 1
        cross, own = grams(module, first, second)
        sensitivity = self.sensitivities[name].reshape(rows, -1).sum(1)  # (rows,)
        parts: list[tuple[Floats, Curvature, NDArray[np.bool_]]] = []
        least = 1e-6 * float(own.diagonal(dim1=1, dim2=2).sum(1).mean())
        for group in range(len(own)):
            part = slice(group * (rows // len(own)), (group + 1) * (rows // len(own)))
            flat = weight[part].flatten(1).double()  # (rows of the group, columns)
            gram = own[group].double()
            trace = float(gram.trace())
            seen = trace > least  # inputs that are always zero: nothing can be said, and nothing is lost
            ridge = RIDGE * trace / len(gram) if seen else 1.0
            gram.diagonal().add_(ridge)
            target = torch.linalg.solve(gram, (flat @ cross[group].double() + ridge * flat).T).T
            zeros = (flat == 0).cpu().numpy()
            curvature = Curvature(_floats(gram), _floats(sensitivity[part].double() * (1 / trace if seen else 0.0)))
            parts.append((np.where(zeros, np.float32(0), _floats(target)), curvature, zeros))

        def choose(step: float) -> tuple[Choice, ...]:
            return tuple(
                choose_levels(t, c, step=step, tradeoff=self.tradeoff, places=places, fixed=zeros)
                for t, c, zeros in parts
            )

        mean = sum(c.per_weight() * t.size for t, c, _ in parts) / weight.numel()
        return self._searched(weight, mean, choose)

    def _plain(self, name: str, weight: Tensor) -> Quantized:
        """A tensor whose errors cannot be made good by others: by the prices of the file's own coder."""
        if weight.dim() < 2 or weight.numel() < SMALL:
            return self._vector(name, weight)
        sensitivity = self.sensitivities[name].flatten(1).double()
        rows, columns = (s + 1e-3 * s.mean() + 1e-30 for s in (sensitivity.sum(1), sensitivity.sum(0)))
        costs = _floats(rows[:, None] * columns[None] / columns.sum()).reshape(weight.shape)
        given = _floats(weight)

        def choose(step: float) -> tuple[Choice, ...]:
            levels, bits = adaptive.quantize(
                given / np.float32(step), costs * np.float32(step**2), self.tradeoff, low=-MOST_LEVEL, high=MOST_LEVEL
            )
            distortion = float((costs * (given - on_grid(levels, step)).astype(np.float64) ** 2).sum())
            return (Choice(levels.reshape(len(levels), -1), step, distortion, bits),)

        return self._searched(weight, float(costs.mean(dtype=np.float64)), choose)

    def _searched(self, weight: Tensor, sensitivity: float, choose: Callable[[float], tuple[Choice, ...]]) -> Quantized:
        """The best of the steps."""
        finest = float(weight.abs().max()) / MOST_LEVEL

        @cache
        def choices(index: int) -> tuple[Choice, ...]:
            return choose(grid_step(max(self.steps[index] * fine_step(sensitivity, self.tradeoff), finest)))

        def cost(index: int) -> float:
            return sum(c.cost(self.tradeoff) for c in choices(index))

        at = len(self.steps) // 2  # downhill, to either side
        for direction in (-1, 1):
            while 0 <= at + direction < len(self.steps) and cost(at + direction) < cost(at):
                at += direction
        best = choices(at)
        return Quantized(
            np.concatenate([c.levels for c in best]),
            best[0].step,
            sum(c.bits for c in best),
            sum(c.distortion for c in best),
            tuple(weight.shape),
        )

    def _vector(self, name: str, values: Tensor) -> Quantized:
        """Rounded to a step that is fine enough to lose nothing that counts."""
        sensitivity = self.sensitivities[name].double().mean()
        step = VECTOR_STEP * fine_step(float(sensitivity), self.tradeoff)
        largest = float(values.abs().max()) if values.numel() else 0.0
        step = grid_step(min(max(step, largest / MOST_LEVEL, 1e-30), max(largest, 1e-30)))
        flat = values.double().cpu().numpy().reshape(1, -1)
        levels = nearest_levels(flat, step)
        spread = np.log2(np.abs(levels) + 1.0).sum() * 2 + levels.size
        error = float(((flat - levels * step) ** 2).sum() * float(sensitivity))
        return Quantized(levels, step, float(spread), error, tuple(values.shape))

    def _norm(self, name: str, module: nn.Module, given: Tensor, wanted: Tensor) -> Tensor:
        """Scale and shift by least squares, quantized; the normalisation is in normal form."""
        axes = [a for a in range(given.dim()) if a != 1]
        view = [1, -1] + [1] * (given.dim() - 2)
        scale, shift = (module.get_parameter(key).detach() for key in ("weight", "bias"))
        mean, target = given.mean(axes), wanted.mean(axes)
        if self.compensate:
            centred = given - mean.view(view)
            spread = centred.square().mean(axes)
            slope = (centred * (wanted - target.view(view))).mean(axes) / spread.clamp_min(1e-12)
            scale = torch.where(spread > 1e-12, slope, scale)
        if f"{name}.weight" in self.chosen:
            made = self.found.setdefault(f"{name}.weight", self._vector(f"{name}.weight", scale))
            scale = made.values().to(scale)
        if self.compensate:
            shift = target - scale * mean
        if f"{name}.bias" in self.chosen:
            made = self.found.setdefault(f"{name}.bias", self._vector(f"{name}.bias", shift))
            shift = made.values().to(shift)
        return given * scale.view(view) + shift.view(view)


def _floats(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _called(module: nn.Module, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What the module would answer with other parameters; its hooks are not called."""
    kept = {key: module.get_parameter(key).data for key in values}
    try:
        for key, value in values.items():
            module.get_parameter(key).data = value
        return module.forward(x)
    finally:
        for key, value in kept.items():
            module.get_parameter(key).data = value
