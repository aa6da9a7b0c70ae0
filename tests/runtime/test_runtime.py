"""A file's network without torch answers what it answers with it, and importing it is quick."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netpress
from netpress import zoo
from netpress.artifact import open_contents
from netpress.artifact.container import seal
from netpress.artifact.document import pack
from netpress.data import Preprocess
from netpress.errors import ArtifactError, DataError, FormatError, MissingExtraError, UnsupportedOperatorError
from netpress.graph import trace
from netpress.runtime import load

PREPROCESS = Preprocess(1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-20 on a coarse grid, each tensor by the smallest codec."""
    network = zoo.build("resnet20", seed=0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                step = parameter.std()
                parameter.copy_((parameter / step).round() * step)
    path = tmp_path_factory.mktemp("runtime") / "small.netpress"
    classes = [f"class {k}" for k in range(10)]
    netpress.save(path, network, input_shape=(3, 32, 32), preprocess=PREPROCESS.as_dict(), classes=classes)
    return path


def test_answers_are_those_of_torch(file: Path) -> None:
    network, plain = load(file, threads=1), netpress.load(file)
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        wanted = plain(x).numpy()
    np.testing.assert_allclose(network(x.numpy()), wanted, rtol=1e-4, atol=1e-4)
    assert (network.input_shape, network.output_shape, network.task) == ((3, 32, 32), (10,), "classification")
    assert network.classes[3] == "class 3"
    assert len({stored.codec.name for stored in open_contents(file).tensors}) > 2


def test_stored_images_are_preprocessed_as_the_file_says(file: Path) -> None:
    network = load(file, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(network(images), network(PREPROCESS(images).numpy()))
    np.testing.assert_array_equal(network(images), network(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))


def test_an_empty_batch(file: Path) -> None:
    assert load(file)(np.empty((0, 3, 32, 32), np.float32)).shape == (0, 10)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((3, 32, 32)),
        np.zeros((2, 3, 31, 32)),
        np.zeros((2, 3, 32, 32), complex),
        np.zeros((2, 16, 16, 3), np.uint8),
    ],
)
def test_other_inputs_are_refused(file: Path, inputs: np.ndarray) -> None:
    with pytest.raises(DataError):
        load(file)(inputs)


def test_whole_numbers_to_look_up(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 1)).eval()
    traced = trace(network, torch.randint(0, 9, (2, 5)))
    path = tmp_path / "a"
    netpress.save(path, traced, input_shape=(5,), preprocess=Preprocess(indices=True).as_dict(), task="regression")
    x = np.random.default_rng(0).integers(0, 9, (4, 5), dtype=np.uint8)
    with torch.no_grad():
        wanted = traced(torch.from_numpy(x).long()).numpy()
    np.testing.assert_allclose(load(path)(x), wanted, rtol=1e-5, atol=1e-6)


WITHOUT_TORCH = """
import sys, time
sys.modules["torch"] = None  # importing it raises ImportError
import numpy as np
start = time.process_time()  # others may be using the processor
import netpress.runtime
seconds = time.process_time() - start
assert "onnxruntime" not in sys.modules
network = netpress.runtime.load(sys.argv[1], threads=1)
outputs = network(np.load(sys.argv[2]))
np.save(sys.argv[3], outputs)
assert "torch" not in [name for name, module in sys.modules.items() if module is not None]
print(seconds)
"""


def test_no_torch_is_needed(file: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", WITHOUT_TORCH, file, tmp_path / "x.npy", tmp_path / "y.npy"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 0.3
    with torch.no_grad():
        wanted = netpress.load(file)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-4, atol=1e-4)


def test_a_missing_onnx_runtime_says_how_to_install_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "netpress\[runtime\]"'):
        load(file)


class TestFiles:
    def test_a_damaged_file_is_refused_as_ever(self, file: Path, tmp_path: Path) -> None:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ArtifactError, match="checksum"):
            load(tmp_path / "a")

    @pytest.mark.parametrize(
        "graph",
        [
            {"v": 1, "in": [4], "n": [["os.system", "0", ["true"]]]},
            {"v": 1, "in": [4], "n": [["Softmax", "forward", [1]]]},
            {"v": 1, "in": [4], "n": [["transpose", "", 1, 1, 7]]},
            {"v": 1, "in": [4], "n": [["Flatten", "0", [0]]]},
            {"v": 1, "in": [2**31 - 1], "n": [["unbind", "", 1, 1], ["item", "", 1, 0]]},
            {"v": 1, "in": [1, 2**30], "n": [["repeat", "", 1, [1, 2**30, 2**30]], ["sum", "", 1, [1, 2]]]},
        ],
    )
    def test_a_hostile_program_is_refused_with_and_without_torch(
        self, graph: dict[str, object], tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"".join(seal(pack({"graph": graph}), [])))
        for read in (load, netpress.load):
            began = time.monotonic()
            try:
                read(path)
            except FormatError:
                assert time.monotonic() - began < 10
            else:  # meta tensors of any size are computed with: what cannot be run is found out when it runs
                assert "repeat" in json.dumps(graph)

    def test_what_onnx_cannot_say_names_the_operator(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Linear(4, 4)).to(torch.bfloat16)
        path = tmp_path / "a"
        netpress.save(path, network, input_shape=(4,), preprocess=None)
        with pytest.raises(UnsupportedOperatorError, match=r"'Linear' of module '0' .*bfloat16"):
            load(path)
