"""Layers that multiply with a weight in its coded form (`netpress.codecs.Coded`), which is never unpacked.

For inference on the CPU in float32. The product runs on as many threads as torch does (``torch.get_num_threads()``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress.codecs import Coded
from netpress.errors import ConfigError, TrainingError

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
CHUNK_BYTES = 16 * 2**20
"""How much memory a convolution takes for its unfolded input at a time."""


class _Shared:
    """Holds a coded weight, which never changes: copies of a layer share it."""

    def __init__(self, coded: Coded) -> None:
        self.coded = coded

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class SuccinctLayer(nn.Module, ABC):
    """What all coded layers are.

    Args:
        coded: The weight.
        bias: (rows,) float32, or None.

    Raises:
        ConfigError: The bias does not fit the weight.
    """

    bias: Tensor | None

    def __init__(self, coded: Coded, bias: Tensor | None) -> None:
        super().__init__()
        if bias is not None and (tuple(bias.shape) != (coded.rows,) or bias.dtype != torch.float32):
            raise ConfigError(
                "the bias does not fit the coded weight",
                got=f"{bias.dtype} {tuple(bias.shape)}",
                allowed=f"torch.float32 ({coded.rows},)",
            )
        self._shared = _Shared(coded)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.eval()

    @property
    def coded(self) -> Coded:
        """The weight."""
        return self._shared.coded

    def forward(self, x: Tensor) -> Tensor:
        """The layer's answer to ``x``.

        Raises:
            TrainingError: The layer is in training mode, or a gradient is asked for.
            ConfigError: ``x`` is not float32 on the CPU, or not of a shape that the layer takes.
            FormatError: The coded weight turns out not to be one.
        """
        if self.training or (x.requires_grad and torch.is_grad_enabled()):
            raise TrainingError(
                "a layer in coded form cannot be trained",
                got="training mode" if self.training else "an input that asks for gradients",
                allowed="eval() and torch.no_grad()",
                remedy="load the file with execution='dense' to train its network",
            )
        if x.device.type != "cpu" or x.dtype != torch.float32:
            raise ConfigError(
                "a layer in coded form takes float32 on the CPU",
                got=f"{x.dtype} on {x.device}",
                allowed="torch.float32 on cpu",
                remedy="load the file with execution='dense' for other devices and types",
            )
        return self._answer(x)

    @abstractmethod
    def _answer(self, x: Tensor) -> Tensor: ...

    def _multiply(self, columns: Tensor) -> Tensor:
        """W times (columns, N), without bias: (rows, N)."""
        # detach: torch hands no memory to numpy of a tensor that could ask for gradients
        product = self.coded.multiply(columns.detach().contiguous().numpy(), torch.get_num_threads())
        return torch.from_numpy(product)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        # torch's one way for .to(), .cuda(), .half() and their like
        probe = fn(torch.empty(0))
        if probe.device.type != "cpu" or probe.dtype != torch.float32:
            raise ConfigError(
                "a layer in coded form stays in float32 on the CPU",
                got=f"{probe.dtype} on {probe.device}",
                allowed="torch.float32 on cpu",
                remedy="load the file with execution='dense' for other devices and types",
            )
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        return f"{self.coded.rows} x {self.coded.columns} in {self.coded.memory_bytes} bytes"


class SuccinctLinear(SuccinctLayer):
    """``nn.Linear`` with a coded weight.

    Args:
        coded: (out_features, in_features).
        bias: (out_features,) float32, or None.
    """

    def _answer(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if x.dim() < 1 or x.shape[-1] != self.coded.columns:
            raise _wrong_shape(x, f"(..., {self.coded.columns})")
        flat = x.reshape(-1, self.coded.columns)  # (N, in_features)
        answer = self._multiply(flat.T).T.contiguous()  # (in_features, N) -> (N, out_features)
        if self.bias is not None:
            answer += self.bias
        return answer.view(*x.shape[:-1], self.coded.rows)


class _SuccinctConv(SuccinctLayer):
    """A convolution of ``dims`` spatial dimensions, as a product with patches of the input that are laid out in chunks."""

    dims: int

    def __init__(
        self,
        coded: Coded,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        kernel_size: int | tuple[int, ...],
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(coded, bias)
        if groups != 1:
            raise ConfigError(
                "a coded convolution has one group",
                got=groups,
                allowed=1,
                remedy="decode the weight of a grouped convolution: it is small",
            )
        if padding_mode not in PADDING_MODES:
            raise ConfigError("not a padding mode", got=repr(padding_mode), allowed=", ".join(PADDING_MODES))
        self.kernel_size = self._each(kernel_size, "kernel_size", 1)
        self.stride = self._each(stride, "stride", 1)
        self.dilation = self._each(dilation, "dilation", 1)
        self.padding_mode = padding_mode
        if padding == "same":
            spans = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            self.padding = tuple((span // 2, span - span // 2) for span in spans)
            if max(self.stride) > 1:
                raise ConfigError("padding 'same' needs a stride of 1", got=self.stride)
        else:
            if isinstance(padding, str) and padding != "valid":
                raise ConfigError("not a padding", got=repr(padding), allowed="'same', 'valid', or numbers")
            sides = self._each(0 if padding == "valid" else padding, "padding", 0)
            self.padding = tuple((side, side) for side in sides)
        if coded.columns % math.prod(self.kernel_size):
            raise ConfigError(
                "the coded weight does not fit the kernel", got=f"{coded.columns} columns, kernel {self.kernel_size}"
            )
        self.in_channels = coded.columns // math.prod(self.kernel_size)

    def _each(self, value: Any, name: str, least: int) -> tuple[int, ...]:
        """One number a spatial dimension."""
        values = (value,) * self.dims if isinstance(value, int) else tuple(value)
        if len(values) != self.dims or not all(type(v) is int and v >= least for v in values):
            raise ConfigError(f"{name} is out of range", got=value, allowed=f"{self.dims} numbers from {least}")
        return values

    def _answer(self, x: Tensor) -> Tensor:
        """(N, C, *sizes) or (C, *sizes) -> (N, rows, *out) or (rows, *out)."""
        if x.dim() not in (self.dims + 1, self.dims + 2) or x.shape[-self.dims - 1] != self.in_channels:
            raise _wrong_shape(x, f"(N, {self.in_channels}{', size' * self.dims})")
        if x.dim() == self.dims + 1:
            return self._answer(x[None])[0]
        sides = [side for pair in reversed(self.padding) for side in pair]  # torch pads the last dimension first
        if any(sides):
            x = F.pad(x, sides, mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        out = [
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        ]
        if min(out) < 1:
            raise _wrong_shape(x, f"sizes that the kernel {self.kernel_size} fits in, padding included")
        answer = x.new_empty(x.shape[0], self.coded.rows, *out)
        if answer.numel():
            self._fill(answer, self._patches(x.contiguous(), out))
        if self.bias is not None:
            answer += self.bias.view(-1, *[1] * self.dims)
        return answer

    def _patches(self, x: Tensor, out: list[int]) -> Tensor:
        """A view, (C, *kernel, N, *out), of (N, C, *sizes): every place of the kernel at every place of the answer."""
        batch, channel, *steps = x.stride()
        at_kernel = [step * d for step, d in zip(steps, self.dilation, strict=True)]
        at_answer = [step * s for step, s in zip(steps, self.stride, strict=True)]
        shape = (self.in_channels, *self.kernel_size, x.shape[0], *out)
        return x.as_strided(shape, (channel, *at_kernel, batch, *at_answer), x.storage_offset())

    def _fill(self, answer: Tensor, patches: Tensor) -> None:
        """Products chunk by chunk: of samples, or of slices along the first spatial dimension where one sample is too much."""
        samples, rows, first, *rest = answer.shape
        slice_bytes = 4 * self.coded.columns * math.prod(rest)
        slices = max(1, min(first, CHUNK_BYTES // slice_bytes))
        together = max(1, CHUNK_BYTES // (slice_bytes * first))
        kernel_dims = 1 + self.dims
        for n in range(0, samples, together):
            for start in range(0, first, slices):
                chunk = patches.narrow(kernel_dims, n, min(together, samples - n))
                chunk = chunk.narrow(kernel_dims + 1, start, min(slices, first - start))
                product = self._multiply(chunk.reshape(self.coded.columns, -1))
                part = product.view(rows, chunk.shape[kernel_dims], -1, *rest).transpose(0, 1)
                answer[n : n + together, :, start : start + slices] = part

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel_size={self.kernel_size}, stride={self.stride}"


class SuccinctConv1d(_SuccinctConv):
    """``nn.Conv1d`` with a coded weight, of one group.

    Args:
        coded: (out_channels, in_channels * kernel_size).
        bias: (out_channels,) float32, or None.
        stride, padding, dilation, groups, kernel_size, padding_mode: As in ``nn.Conv1d``.

    Raises:
        ConfigError: More than one group, or a value out of range.
    """

    dims = 1


class SuccinctConv2d(_SuccinctConv):
    """``nn.Conv2d`` with a coded weight, of one group.

    Args:
        coded: (out_channels, in_channels * kernel height * kernel width).
        bias: (out_channels,) float32, or None.
        stride, padding, dilation, groups, kernel_size, padding_mode: As in ``nn.Conv2d``.

    Raises:
        ConfigError: More than one group, or a value out of range.
    """

    dims = 2


def takes_coded_weight(module: nn.Module) -> bool:
    """Whether `coded_layer` can replace ``module``: a linear layer, or a convolution of one group; float32."""
    if type(module) is nn.Linear:
        return module.weight.dtype == torch.float32
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or type(module) not in (nn.Conv1d, nn.Conv2d):
        return False
    return module.groups == 1 and module.weight.dtype == torch.float32


def coded_layer(module: nn.Module, coded: Coded) -> SuccinctLayer:
    """What computes the same as ``module`` (see `takes_coded_weight`), whose own weight is not looked at."""
    if isinstance(module, nn.Linear):
        return SuccinctLinear(coded, module.bias)
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        raise ConfigError("no coded layer for this module", got=type(module).__name__, allowed="Linear, Conv1d, Conv2d")
    layer = SuccinctConv1d if isinstance(module, nn.Conv1d) else SuccinctConv2d
    return layer(
        coded,
        module.bias,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
        kernel_size=module.kernel_size,
        padding_mode=module.padding_mode,
    )


def _wrong_shape(x: Tensor, allowed: str) -> ConfigError:
    return ConfigError("the input of a coded layer has the wrong shape", got=tuple(x.shape), allowed=allowed)
