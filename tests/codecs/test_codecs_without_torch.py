"""Every codec gives the same bits as a numpy array and as a tensor of torch, the array where torch cannot be imported."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from netpress.codecs import Codec, codecs
from netpress.dtypes import TYPES, torch_type


@pytest.mark.parametrize("dtype", TYPES.values(), ids=str)
@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: codec.name)
def test_array_and_tensor_hold_the_same_bits(codec: Codec, dtype) -> None:  # type: ignore[no-untyped-def]
    for shape in ((7, 5), (3, 2, 2), (0, 4), ()):
        tensor = torch.randint(0, 2, shape).to(torch_type(dtype))
        if not codec.accepts(tensor):
            assert codec.name == "row_grid"  # all others take everything
            continue
        payload = memoryview(codec.encode(tensor))
        array = codec.decode(payload, dtype, shape)
        assert (array.dtype, array.shape) == (dtype.numpy, shape)
        plain = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert np.ascontiguousarray(array).tobytes() == plain


WORK = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError
import numpy as np
from netpress.codecs import codec_by_name
from netpress.dtypes import FLOAT32
name, payload = sys.argv[1], bytes.fromhex(sys.argv[2])
codec = codec_by_name(name)
found = codec.decode(memoryview(payload), FLOAT32, (6, 9))
assert found.dtype == np.float32
print(found.tobytes().hex())
"""


@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: codec.name)
def test_decoding_needs_no_torch(codec: Codec) -> None:
    tensor = (torch.randn(6, 9) * 2).round() / 4 + 0.0  # no -0.0, which is on no grid
    command = [sys.executable, "-c", WORK, codec.name, codec.encode(tensor).hex()]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert bytes.fromhex(ran.stdout.strip()) == tensor.numpy().tobytes()
