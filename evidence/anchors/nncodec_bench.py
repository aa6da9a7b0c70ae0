"""One network through NNCodec: encoded, decoded, and judged by its right answers. Runs in NNCodec's environment (numpy < 2)."""

from __future__ import annotations

import contextlib
import io
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from nncodec_points import Network, Row, Setting
from safetensors.torch import load_file

from netpress import zoo
from netpress.data import Preprocess, Split, open_data
from netpress.measure import answers, environment, quality

with contextlib.suppress(
    RuntimeError
):  # torchvision, which NNCodec imports but does not use here, may lack its binary half
    _OPERATORS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")

from nncodec import nnc
from nncodec.nnc_core.nnr_model import ModelExecute

Tensors = dict[str, Any]  # name -> numpy float32 array; "Any" for what two versions of numpy call it
SEARCH_IMAGES = {True: 2000, False: 200}
"""Training images, from the first on, that the inference-optimised quantization runs a small or another network on."""


class Bench:
    """A pretrained network, its images, and the codec."""

    def __init__(self, network: Network, data_folder: str) -> None:
        torch.set_num_threads(1)
        self.network = network
        self.module, preprocess = zoo.load_pretrained(network.weights)
        self.preprocess = Preprocess.from_dict(preprocess)
        spec = f"npz:{data_folder}/{network.data}.npz"
        self.test = open_data(spec).test
        self.held_out = open_data(f"{spec}?train=train[:100]&test={network.held_out}").test
        self.search = open_data(f"{spec}?train=train[-100:]&test=train[:{SEARCH_IMAGES[network.small]}]").test
        loaded = load_file(zoo.find_weights(network.weights))
        self.tensors: Tensors = {
            name: tensor.numpy() for name, tensor in loaded.items() if tensor.dim()
        }  # no scalars: refused
        self.has_batch_norm = any(name.endswith("running_mean") for name in self.tensors)
        self._last: tuple[Setting, bytearray, float] | None = None

    def size(self, setting: Setting) -> int:
        """Bytes of the whole bitstream."""
        return len(self._encoded(setting)[0])

    def row(self, setting: Setting | None, *, held_out: bool) -> Row:
        """What the ledger keeps of one setting; None stands for the network as it came, with its float32 bytes."""
        if setting is None:
            size, seconds, tensors = sum(array.nbytes for array in self.tensors.values()), None, self.tensors
        else:
            bitstream, seconds = self._encoded(setting)
            size, tensors = len(bitstream), self._decoded(bitstream, folded=setting.bnf)
        self._load(tensors)
        test, held = self._correct(self.test), self._correct(self.held_out) if held_out else None
        where = environment()
        return {
            "network": self.network.name,
            "weights": self.network.weights,
            "setting": setting and setting.as_dict(),
            "bytes": size,
            "correct_test": test,
            "count_test": len(self.test),
            "correct_held_out": held,
            "count_held_out": len(self.held_out),
            "held_out": f"{self.network.data} {self.network.held_out}",
            "encode_seconds": seconds,
            "versions": {"nncodec": version("nncodec")}
            | {name: where[name] for name in ("netpress", "torch", "numpy", "python")},
            "machine": {name: where[name] for name in ("system", "processor", "cores", "threads", "device")},
        }

    def _encoded(self, setting: Setting) -> tuple[bytearray, float]:
        if self._last is None or self._last[0] != setting:
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                bitstream = nnc.compress(
                    dict(self.tensors),
                    bitstream_path=None,
                    return_bitstream=True,
                    row_skipping=True,
                    block_id_and_param_type=_blocks(self.tensors),
                    model_executer=_Executer(self) if setting.ioq else None,
                    **setting.as_dict(),
                )
            self._last = setting, bitstream, round(time.process_time() - start, 3)
        return self._last[1:]

    def _decoded(self, bitstream: bytearray, *, folded: bool) -> Tensors:
        """The decoded tensors under the network's names; folded batch norms come back as a bias alone."""
        decoded = nnc.decompress(bitstream, reconstruct_lsa=True)
        return self._unfolded(decoded) if folded else decoded

    def _unfolded(self, decoded: Tensors) -> Tensors:
        whole = dict(decoded)
        for name, (block, part) in _parts(self.tensors).items():
            if not part.startswith("bn."):
                continue
            if part == "bn.beta":
                whole[name] = whole.pop(f"{block}.weight.bias")
            else:  # the layer's scale is in its weights; batch norm adds 1e-5 to the variance
                value = {"bn.gamma": 1.0, "bn.mean": 0.0, "bn.var": 1 - 1e-5}[part]
                whole[name] = np.full(self.tensors[name].shape, value, np.float32)
        return whole

    def log_likelihood(self, tensors: Tensors) -> float:
        """Mean log-likelihood of the labels of the search images, under weights that lack nothing."""
        self._load(tensors)
        labels = torch.as_tensor(np.asarray(self.search.labels)).long()
        passes = answers(self.module, self.search, self.preprocess)
        outputs = torch.cat([output for output, _ in passes])
        return -float(torch.nn.functional.cross_entropy(outputs, labels))

    def _load(self, tensors: Tensors) -> None:
        if set(tensors) != set(self.tensors):
            raise ValueError(f"decoded to other tensors: {sorted(set(tensors) ^ set(self.tensors))}")
        own = self.module.state_dict()
        self.module.load_state_dict(own | {name: torch.from_numpy(array) for name, array in tensors.items()})

    def _correct(self, split: Split) -> int | None:
        return quality(self.module, split, self.preprocess).correct


class _Executer(ModelExecute):
    """Judges quantized weights for NNCodec's inference-optimised quantization."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def eval_model(self, parameters: Tensors, verbose: bool = False) -> dict[str, float]:
        return {"log-likelihood": self.bench.log_likelihood(parameters)}

    def has_eval(self) -> bool:
        return True

    def has_test(self) -> bool:
        return False

    def has_tune_ft(self) -> bool:
        return False

    def has_tune_lsa(self) -> bool:
        return False


def _parts(tensors: Tensors) -> dict[str, tuple[str, str]]:
    """Name of each tensor -> (the layer it belongs to, what it is there), in NNCodec's terms."""
    parts = {}
    for name, array in tensors.items():
        layer, leaf = name.rsplit(".", 1)
        if array.ndim > 1:
            parts[name] = layer, "weight"
        elif f"{layer}.running_mean" in tensors:
            before = f"{layer[:-1]}0" if layer.endswith("downsample.1") else layer.replace("bn", "conv")
            kinds = {"weight": "bn.gamma", "bias": "bn.beta", "running_mean": "bn.mean", "running_var": "bn.var"}
            parts[name] = before, kinds[leaf]
        else:
            parts[name] = layer, "bias"
    return parts


def _blocks(tensors: Tensors) -> dict[str, dict[str, str]]:
    """What NNCodec would guess from a module: which tensors make a layer, so that they share a header."""
    parts = _parts(tensors)
    return {
        "block_identifier": {name: layer for name, (layer, _) in parts.items()},
        "parameter_type": {name: part for name, (_, part) in parts.items()},
    }
