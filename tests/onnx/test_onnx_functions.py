"""Every function of the closed list gives in ONNX Runtime what it gives in torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from running import assert_agrees
from torch import Tensor, nn

from netpress.graph import trace
from netpress.graph.operators import FUNCTIONS, dynamic_quantize


class Does(nn.Module):
    """A function as a network, with tensors of its own to take part."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(5, 6, generator=generator))
        self.v = nn.Parameter(torch.rand(6, generator=generator) + 0.5)
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, generator=generator))
        self.kernel2 = nn.Parameter(torch.randn(4, 4, 3, 3, generator=generator))
        self.kernel3 = nn.Parameter(torch.randn(4, 4, 2, 2, 2, generator=generator))
        self.c = nn.Parameter(torch.rand(4, generator=generator) + 0.5)
        self.register_buffer("at", torch.tensor([2, 0, 3]))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False, True]))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


SEQUENCE, IMAGE, VOLUME = (4, 6), (4, 6, 6), (4, 4, 4, 4)

OF_SEQUENCES: dict[str, list[Callable[..., Tensor]]] = {
    "add": [lambda m, x: x + m.v, lambda m, x: 2 + x, lambda m, x: x + x.shape[0]],
    "sub": [lambda m, x: x - m.v, lambda m, x: 1.5 - x],
    "mul": [lambda m, x: x * m.v, lambda m, x: x * 3, lambda m, x: x * x[:, :1]],
    "div": [lambda m, x: x / m.v, lambda m, x: 1 / (x.abs() + 1), lambda m, x: x / x.size(0)],
    "pow": [lambda m, x: x**2, lambda m, x: x.abs() ** 0.5, lambda m, x: 2**x],
    "floor_divide": [lambda m, x: x // 0.3, lambda m, x: (x * 9).to(torch.int64) // 4],
    "gt": [lambda m, x: (x > 0.1).to(torch.float32), lambda m, x: x * (x > x.mean(1, keepdim=True))],
    "ge": [lambda m, x: (x >= 0.1).to(torch.float32)],
    "lt": [lambda m, x: (x < 0.1).to(torch.float32)],
    "le": [lambda m, x: (x <= x.mean(1, keepdim=True)).to(torch.float32)],
    "eq": [lambda m, x: (x.sign() == 1).to(torch.float32)],
    "ne": [lambda m, x: (x.sign() != 1).to(torch.float32)],
    "minimum": [lambda m, x: torch.minimum(x, m.v)],
    "maximum": [lambda m, x: torch.maximum(x, m.v)],
    **{
        name: [lambda m, x, call=call: call(x)]
        for name, call in {
            "neg": torch.neg,
            "abs": torch.abs,
            "exp": torch.exp,
            "sin": torch.sin,
            "cos": torch.cos,
            "sign": torch.sign,
            "erf": torch.erf,
            "sigmoid": torch.sigmoid,
            "tanh": torch.tanh,
            "relu": torch.relu,
            "relu6": F.relu6,
            "silu": F.silu,
            "mish": F.mish,
            "hardswish": F.hardswish,
            "hardsigmoid": F.hardsigmoid,
            "logsigmoid": F.logsigmoid,
        }.items()
    },
    **{
        name: [lambda m, x, call=call: call(x.abs() + 0.1)]
        for name, call in {
            "log": torch.log,
            "sqrt": torch.sqrt,
            "rsqrt": torch.rsqrt,
            "reciprocal": torch.reciprocal,
        }.items()
    },
    "detach": [lambda m, x: x.detach() * 2],
    "logical_not": [lambda m, x: torch.logical_not(x > 0).to(torch.float32)],
    "gelu": [lambda m, x: F.gelu(x), lambda m, x: F.gelu(x, approximate="tanh")],
    "leaky_relu": [lambda m, x: F.leaky_relu(x, 0.2)],
    "elu": [lambda m, x: F.elu(x, 0.7)],
    "softplus": [lambda m, x: F.softplus(x), lambda m, x: F.softplus(x, 2, 1)],
    "hardtanh": [lambda m, x: F.hardtanh(x, -0.3, 0.6)],
    "prelu": [lambda m, x: F.prelu(x, m.c)],
    "softmax": [lambda m, x: x.softmax(-1), lambda m, x: F.softmax(x, 1, dtype=torch.float64)],
    "log_softmax": [lambda m, x: x.log_softmax(2)],
    "clamp": [lambda m, x: x.clamp(-0.5, 0.5), lambda m, x: x.clamp(min=0), lambda m, x: x.clamp(max=0.2)],
    "where": [lambda m, x: torch.where(x > 0, x, m.v), lambda m, x: torch.where(x > 0, 1.0, x)],
    "masked_fill": [lambda m, x: x.masked_fill(m.mask, -2.0)],
    "fake_quantize": [
        lambda m, x, ends=ends: torch.fake_quantize_per_tensor_affine(x, 0.07, *ends)
        for ends in ((100, 0, 255), (-3, -128, 127), (7, 0, 15), (0, -8, 7))
    ],
    "dynamic_quantize": [
        lambda m, x: dynamic_quantize(x),
        lambda m, x: dynamic_quantize(x.exp()),
        lambda m, x: dynamic_quantize(x.to(torch.float64)),
    ],
    "matmul": [
        lambda m, x: x @ m.w.T,
        lambda m, x: x @ m.v,
        lambda m, x: m.w @ x.transpose(1, 2),
        lambda m, x: x @ x.transpose(1, 2),
    ],
    "bmm": [lambda m, x: torch.bmm(x, x.transpose(1, 2))],
    "addmm": [lambda m, x: torch.addmm(m.v, x.flatten(1)[:, :5], m.w)],
    "baddbmm": [lambda m, x: torch.baddbmm(m.c, x, x.transpose(1, 2))],
    "einsum": [
        lambda m, x: torch.einsum("ncf,of->nco", x, m.w),
        lambda m, x: torch.einsum("n...,...->n...", x, m.v),
        lambda m, x: torch.einsum("acf,f", x, m.v),
    ],
    "linear": [lambda m, x: F.linear(x, m.w), lambda m, x: F.linear(x, m.w, m.v[:5])],
    "embedding": [
        lambda m, x: F.embedding((x > 0).to(torch.int64), m.w),
        lambda m, x: F.embedding((x > 0).to(torch.int32), m.w, 0),
    ],
    "conv1d": [
        lambda m, x: F.conv1d(x, m.kernel),
        lambda m, x: F.conv1d(x, m.kernel[:, :2], m.c, 2, 1, 1, 2),
        lambda m, x: F.conv1d(x, m.kernel, padding="same"),
    ],
    "conv_transpose1d": [lambda m, x: F.conv_transpose1d(x, m.kernel, m.c, 2, 1, 1)],
    "batch_norm": [lambda m, x: F.batch_norm(x, m.c, m.c * 2, m.c, m.c), lambda m, x: F.batch_norm(x, m.c, m.c)],
    "layer_norm": [lambda m, x: F.layer_norm(x, (6,), m.v, m.v), lambda m, x: F.layer_norm(x, (4, 6))],
    "group_norm": [lambda m, x: F.group_norm(x, 2, m.c, m.c), lambda m, x: F.group_norm(x, 4)],
    "dropout": [lambda m, x: F.dropout(x, 0.5, m.training) + x],
    "dropout1d": [lambda m, x: F.dropout1d(x, 0.5, m.training) + x],
    "scaled_dot_product_attention": [
        lambda m, x: F.scaled_dot_product_attention(x, x, x),
        lambda m, x: F.scaled_dot_product_attention(x, x[:, :3], x[:, :3], is_causal=True),
        lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=m.kernel[0, :, :1], scale=0.5),
        lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=m.mask[:4]),
    ],
    "cat": [lambda m, x: torch.cat([x, x * 2], 1), lambda m, x: torch.cat([x, x.abs(), x], -1)],
    "stack": [lambda m, x: torch.stack([x, x * 2], 1), lambda m, x: torch.stack([x, x * 2], -1)],
    "split": [lambda m, x: x.split(4, 2)[1], lambda m, x: torch.split(x, [1, 3], 1)[1] - x.split([1, 3], 1)[0]],
    "chunk": [lambda m, x: x.chunk(3, 2)[2], lambda m, x: x.chunk(4, -1)[1]],
    "unbind": [lambda m, x: x.unbind(1)[2] * x.unbind(1)[0]],
    "max_over": [
        lambda m, x: x.max(1)[0],
        lambda m, x: x.max(-1, keepdim=True).values,
        lambda m, x: x.max(2).indices.to(torch.float32),
    ],
    "item": [lambda m, x: x.chunk(2, 1)[0]],
    "getitem": [
        lambda m, x: x[:, 1],
        lambda m, x: x[:, ::2, 1:-1],
        lambda m, x: x[..., None, 2],
        lambda m, x: x[:, -1, None, 2:],
        lambda m, x: x[:, m.at],
        lambda m, x: x[:, :, m.at],
        lambda m, x: x[:, None, :, -2],
        lambda m, x: m.w[None, 1:3].expand(x.shape[0], 2, 6) + x[:, :2],
    ],
    "flatten": [lambda m, x: x.flatten(1), lambda m, x: torch.flatten(x, 1, 2)],
    "reshape": [
        lambda m, x: x.reshape(-1, 24),
        lambda m, x: x.view(x.shape[0], 2, -1),
        lambda m, x: x.reshape(x.shape[0] * 4, 6).reshape(-1, 8, 3),
        lambda m, x: x.reshape(-1, 6).mean(1).reshape(x.size(0), 4),
    ],
    "expand": [
        lambda m, x: x[:, :1].expand(-1, 4, 6) + x,
        lambda m, x: x[:, :1, None].expand(x.shape[0], 1, 3, 6),
        lambda m, x: torch.cat([m.v.expand(x.shape[0], 1, -1), x], 1),
    ],
    "repeat": [lambda m, x: x.repeat(1, 2, 3), lambda m, x: m.v.repeat(x.shape[0], 1, 1) * x],
    "permute": [lambda m, x: x.permute(0, 2, 1)],
    "transpose": [lambda m, x: x.transpose(1, -1), lambda m, x: x.transpose(0, 1).mean(0)],
    "squeeze": [
        lambda m, x: x[:, :1].squeeze(1),
        lambda m, x: x[:, :1, :1].squeeze((1, 2))[:, None],
        lambda m, x: x.squeeze(1),
    ],
    "unsqueeze": [lambda m, x: x.unsqueeze(1), lambda m, x: x.unsqueeze(-1)],
    "movedim": [lambda m, x: x.movedim(1, 2), lambda m, x: x.unsqueeze(1).movedim((1, 2), (3, 1))],
    "flip": [lambda m, x: x.flip(1), lambda m, x: x.flip(1, 2)],
    "roll": [lambda m, x: x.roll(1, 1), lambda m, x: torch.roll(x, (2, -1), (1, 2)), lambda m, x: x + m.v.roll(2, 0)],
    "pad": [
        lambda m, x: F.pad(x, (1, 2)),
        lambda m, x: F.pad(x, (1, 2, 0, 1), value=3.0),
        lambda m, x: F.pad(x, (1, 2), mode="reflect"),
        lambda m, x: F.pad(x, (1, 2), mode="replicate"),
        lambda m, x: F.pad(x, (1, 2), mode="circular"),
        lambda m, x: F.pad(x, (-1, 2)),
    ],
    "to": [lambda m, x: (x * 5).to(torch.int32).to(torch.float32), lambda m, x: x.double().float() * 2],
    "mean": [
        lambda m, x: x.mean(1),
        lambda m, x: x.mean((1, 2)),
        lambda m, x: x.mean(-1, keepdim=True),
        lambda m, x: x - x.mean(),
    ],
    "sum": [
        lambda m, x: x.sum(1),
        lambda m, x: x.sum((1, 2), keepdim=True),
        lambda m, x: (x > 0).sum(2).to(torch.float32),
    ],
    "amax": [lambda m, x: x.amax(1), lambda m, x: x.amax((1, 2))],
    "amin": [lambda m, x: x.amin(-1, keepdim=True)],
    "var": [lambda m, x: x.var(1), lambda m, x: x.var((1, 2), correction=0), lambda m, x: x.var(-1, keepdim=True)],
    "max_pool1d": [lambda m, x: F.max_pool1d(x, 3, 2, 1)],
    "avg_pool1d": [lambda m, x: F.avg_pool1d(x, 2)],
    "adaptive_avg_pool1d": [lambda m, x: F.adaptive_avg_pool1d(x, 3)],
    "adaptive_max_pool1d": [lambda m, x: F.adaptive_max_pool1d(x, 4)],
}
OF_IMAGES: dict[str, list[Callable[..., Tensor]]] = {
    "conv2d": [lambda m, x: F.conv2d(x, m.kernel2), lambda m, x: F.conv2d(x, m.kernel2[:, :1], m.c, 2, 1, 1, 4)],
    "conv_transpose2d": [lambda m, x: F.conv_transpose2d(x, m.kernel2, m.c, 2, 1, 1)],
    "dropout2d": [lambda m, x: F.dropout2d(x, 0.5, m.training) + x],
    "max_pool2d": [lambda m, x: F.max_pool2d(x, 2), lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)],
    "avg_pool2d": [lambda m, x: F.avg_pool2d(x, 2), lambda m, x: F.avg_pool2d(x, 3, 2, 1, True, False)],
    "adaptive_avg_pool2d": [lambda m, x: F.adaptive_avg_pool2d(x, 1), lambda m, x: F.adaptive_avg_pool2d(x, (4, 2))],
    "adaptive_max_pool2d": [lambda m, x: F.adaptive_max_pool2d(x, 2)],
    "interpolate": [
        lambda m, x: F.interpolate(x, scale_factor=2),
        lambda m, x: F.interpolate(x, (9, 4), mode="bilinear"),
        lambda m, x: F.interpolate(x, (3, 3), mode="area"),
        lambda m, x: F.interpolate(x, (9, 9), mode="bilinear", align_corners=True),
        lambda m, x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    ],
    "pixel_shuffle": [lambda m, x: F.pixel_shuffle(x, 2)],
    "pixel_unshuffle": [lambda m, x: F.pixel_unshuffle(x, 3)],
}
OF_VOLUMES: dict[str, list[Callable[..., Tensor]]] = {
    "conv3d": [lambda m, x: F.conv3d(x, m.kernel3, m.c, padding=1)],
    "max_pool3d": [lambda m, x: F.max_pool3d(x, 2)],
}
SHAPES = ((SEQUENCE, OF_SEQUENCES), (IMAGE, OF_IMAGES), (VOLUME, OF_VOLUMES))
CASES = [
    pytest.param(op, shape, call, id=f"{op}-{number}")
    for shape, table in SHAPES
    for op, calls in table.items()
    for number, call in enumerate(calls)
]


@pytest.mark.parametrize(("op", "shape", "call"), CASES)
def test_function(op: str, shape: tuple[int, ...], call: Callable[..., Tensor]) -> None:
    network, x = Does(call).eval(), torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    assert op in {node.op for node in trace(network, x[:2]).nodes}, "the case does not try its operator"
    assert_agrees(network, x)


def test_every_function_is_tried() -> None:
    assert {op for _, table in SHAPES for op in table} == FUNCTIONS.keys()
