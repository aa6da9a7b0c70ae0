"""The closed list of operators that a program is made of: names and arguments, nothing that runs.

- `MODULES`: leaf modules of ``torch.nn``, each with the configuration that rebuilds it;
- `FUNCTIONS`: operators without state.

A name keeps its meaning for ever: an operator whose meaning must change gets a new name, and old files go on to mean what they
meant. `netpress.graph.operators` says what runs in torch, `netpress.onnx` what is written to an ONNX model.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpress.program.signature import Signature

PARAMETER, BUFFER = "parameter", "buffer"  # nodes that read a tensor of the network at its dotted name


@dataclass(frozen=True)
class Function:
    """An operator without state.

    Attributes:
        signature: Its arguments.
        many: Whether it returns a tuple of tensors instead of one.
    """

    signature: Signature
    many: bool = False


# ---------------------------------------------------------------- modules

_CONV = (
    "in_channels:count out_channels:count kernel_size:window stride:window=1 padding:padding=0 dilation:window=1 groups:count=1 "
    'bias:bool=true padding_mode:padding_mode="zeros"'
)
_TRANSPOSED = (
    "in_channels:count out_channels:count kernel_size:window stride:window=1 padding:padding=0 output_padding:padding=0 "
    "groups:count=1 bias:bool=true dilation:window=1"
)
_NORM = "num_features:count eps:float=1e-05 momentum:float?=0.1 affine:bool=true track_running_stats:bool=true"
_POOL = "kernel_size:window stride:window?=null padding:padding=0"
_MAX_POOL = f"{_POOL} dilation:window=1 ceil_mode:bool=false"
_AVG_POOL = f"{_POOL} ceil_mode:bool=false count_include_pad:bool=true"
_RESIZE = 'size:window?=null scale_factor:factor?=null mode:resampling="nearest" align_corners:bool?=null'

_MODULE_LINES = {
    "Conv1d Conv2d Conv3d": _CONV,
    "ConvTranspose1d ConvTranspose2d": _TRANSPOSED,
    "Linear": "in_features:count out_features:count bias:bool=true",
    "Embedding": "num_embeddings:count embedding_dim:count padding_idx:natural?=null",
    "BatchNorm1d BatchNorm2d BatchNorm3d": _NORM,
    "LayerNorm": "normalized_shape:shape eps:float=1e-05 elementwise_affine:bool=true bias:bool=true",
    "GroupNorm": "num_groups:count num_channels:count eps:float=1e-05 affine:bool=true",
    "PReLU": "num_parameters:count=1",
    "ReLU ReLU6 SiLU Mish Sigmoid Tanh Hardswish Hardsigmoid Identity": "",
    "LeakyReLU": "negative_slope:float=0.01",
    "ELU": "alpha:float=1.0",
    "GELU": 'approximate:approximation="none"',
    "Softplus": "beta:float=1.0 threshold:float=20.0",
    "Hardtanh": "min_val:float=-1.0 max_val:float=1.0",
    "Softmax": "dim:dim",
    "LogSoftmax": "dim:dim",
    "MaxPool1d MaxPool2d MaxPool3d": _MAX_POOL,
    "AvgPool1d": _AVG_POOL,
    "AvgPool2d": f"{_AVG_POOL} divisor_override:count?=null",
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d": "output_size:output_size",
    "Flatten": "start_dim:dim=1 end_dim:dim=-1",
    "Unflatten": "dim:dim unflattened_size:shape",
    "Dropout Dropout1d Dropout2d": "p:float=0.5",
    "ZeroPad2d ReflectionPad2d": "padding:offsets",
    "PixelShuffle": "upscale_factor:count",
    "Upsample": _RESIZE,
}
MODULES: dict[str, Signature] = {
    name: Signature.parse(line) for names, line in _MODULE_LINES.items() for name in names.split()
}


# ---------------------------------------------------------------- functions

_FCONV = "input weight bias:tensor?=null stride:window=1 padding:padding=0"
_BATCH_NORM = (
    "input running_mean:tensor?=null running_var:tensor?=null weight:tensor?=null bias:tensor?=null "
    "momentum:float=0.1 eps:float=1e-05"
)
_ATTENTION = "query key value attn_mask:tensor?=null dropout_p:float=0.0 is_causal:bool=false scale:float?=null"

_FUNCTION_LINES = {
    "add sub mul div pow floor_divide gt ge lt le eq ne": "input:operand other:operand",
    "minimum maximum": "input other",
    "neg abs exp log sqrt rsqrt reciprocal sin cos sign erf sigmoid tanh relu relu6 silu mish hardswish hardsigmoid": "input",
    "detach logical_not logsigmoid": "input",
    "gelu": 'input approximate:approximation="none"',
    "leaky_relu": "input negative_slope:float=0.01",
    "elu": "input alpha:float=1.0",
    "softplus": "input beta:float=1.0 threshold:float=20.0",
    "hardtanh": "input min_val:float=-1.0 max_val:float=1.0",
    "prelu": "input weight",
    "softmax log_softmax": "input dim:dim dtype:dtype?=null",
    "clamp": "input min:scalar?=null max:scalar?=null",
    "where": "condition input:operand other:operand",
    "masked_fill": "input mask value:scalar",
    "fake_quantize": "input scale:float zero_point:offset=0 quant_min:offset=0 quant_max:offset=255",
    "dynamic_quantize": "input",
    "matmul": "input other",
    "bmm": "input mat2",
    "addmm": "input mat1 mat2",
    "baddbmm": "input batch1 batch2",
    "einsum": "equation:equation operands:tensors",
    "linear": "input weight bias:tensor?=null",
    "embedding": "input weight padding_idx:offset?=null",
    "conv1d conv2d conv3d": f"{_FCONV} dilation:window=1 groups:count=1",
    "conv_transpose1d conv_transpose2d": f"{_FCONV} output_padding:padding=0 groups:count=1 dilation:window=1",
    "batch_norm": _BATCH_NORM,
    "layer_norm": "input normalized_shape:shape weight:tensor?=null bias:tensor?=null eps:float=1e-05",
    "group_norm": "input num_groups:count weight:tensor?=null bias:tensor?=null eps:float=1e-05",
    "dropout dropout1d dropout2d": "input p:float=0.5",
    "scaled_dot_product_attention": _ATTENTION,
    "cat stack": "tensors:tensors dim:dim=0",
    "split": "input split_size_or_sections:pieces dim:dim=0",
    "chunk": "input chunks:count dim:dim=0",
    "unbind": "input dim:dim=0",
    "max_over": "input dim:dim keepdim:bool=false",
    "item": "input index:natural",  # one of the tensors that a `many` operator returned
    "getitem": "input index:index",
    "flatten": "input start_dim:dim=0 end_dim:dim=-1",
    "reshape": "input shape:sizes",
    "expand": "input size:sizes",
    "repeat": "input repeats:sizes",
    "permute": "input dims:dims",
    "transpose": "input dim0:dim dim1:dim",
    "squeeze": "input dim:dims?=null",
    "unsqueeze": "input dim:dim",
    "movedim": "input source:dims destination:dims",
    "flip": "input dims:dims",
    "roll": "input shifts:shifts dims:dims",
    "pad": 'input pad:offsets mode:pad_mode="constant" value:float=0.0',
    "to": "input dtype:dtype",
    "mean sum amax amin": "input dim:dims?=null keepdim:bool=false",
    "var": "input dim:dims?=null correction:natural=1 keepdim:bool=false",
    "max_pool1d max_pool2d max_pool3d": f"input {_MAX_POOL}",
    "avg_pool1d": f"input {_AVG_POOL}",
    "avg_pool2d": f"input {_AVG_POOL} divisor_override:count?=null",
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d": "input output_size:output_size",
    "interpolate": f"input {_RESIZE}",
    "pixel_shuffle": "input upscale_factor:count",
    "pixel_unshuffle": "input downscale_factor:count",
}
_MANY = frozenset({"split", "chunk", "unbind", "max_over"})
FUNCTIONS: dict[str, Function] = {
    name: Function(Signature.parse(line), name in _MANY)
    for names, line in _FUNCTION_LINES.items()
    for name in names.split()
}


def returns_many(op: str) -> bool:
    """Whether nodes of ``op`` return a tuple of tensors, to be taken apart by ``item``."""
    return op in _MANY
