"""Payloads that no encoder wrote: a typed error, or a tensor of the right type and shape, in bounded time and memory.

The work is done in a process of its own, one a codec, which may take `SECONDS` and `MEMORY_BYTES` more than it begins with; a
codec that hangs, crashes or asks for all the memory there is fails here and takes nothing with it.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from netpress.codecs import codecs

SECONDS = 300
MEMORY_BYTES = 2**30

WORK = """
import json, random, resource, sys
import numpy as np
import torch
from netpress.codecs import codec_by_name
from netpress.errors import ConfigError, FormatError

codec, allowed = codec_by_name(sys.argv[1]), int(sys.argv[2])
rng, dice = np.random.default_rng(11), random.Random(11)


def sparse(shape, density, k):
    values = rng.normal(0, 0.1, k).astype(np.float32)
    return torch.from_numpy(np.where(rng.random(shape) < density, values[rng.integers(0, k, shape)], np.float32(0)))


grid = torch.from_numpy(rng.integers(-3, 4, (12, 30)).astype(np.float32)) * 0.125
subjects = [
    sparse((17, 60), 0.2, 7), sparse((4, 300), 0.02, 2), sparse((9, 30), 1.0, 40), grid, sparse((6, 3, 3, 3), 0.5, 5),
    torch.zeros(5, 8), torch.full((5, 8), 0.5), torch.zeros(0, 4), torch.tensor(391), (sparse((8, 20), 0.4, 6) * 99).to(torch.int8),
    sparse((200,), 0.3, 9), sparse((13, 21), 0.3, 4).half(),
]
steps = torch.from_numpy(rng.random((9, 1)).astype(np.float32)).bfloat16().float()
for columns in ((30,), (3, 3, 3), (1,), (200,), (5, 5)):  # on row grids, as one codec wants them
    levels = torch.from_numpy(rng.integers(-127, 128, (9, *columns)).astype(np.float32))
    subjects.append(levels * steps.reshape(9, *[1] * len(columns)))
subjects.append(torch.from_numpy(rng.random((1, 40)).astype(np.float32)).bfloat16().float())
subjects = [(t, bytes(codec.encode(t))) for t in subjects if codec.accepts(t)]
assert len(subjects) >= 8
codec.decode(memoryview(subjects[0][1]), subjects[0][0].dtype, tuple(subjects[0][0].shape))  # first uses are not counted
any_bits_say_something = {"adaptive", "row_grid"}  # an arithmetic coder's stream without redundancy
told = {"refused": 0, "taken": 0, "products": 0}


def judge(payload, dtype, shape):
    try:
        found = codec.decode(memoryview(payload), dtype, shape)
    except FormatError as error:
        assert str(error)
        told["refused"] += 1
    else:
        assert found.dtype == dtype and tuple(found.shape) == tuple(shape) and found.device.type == "cpu"
        told["taken"] += 1
    if codec.open is None or dtype != torch.float32 or len(shape) < 2 or 0 in shape:
        return
    try:
        coded = codec.open(memoryview(payload), dtype, shape)
        x = np.ones((coded.columns, 3), np.float32)
        with np.errstate(all="ignore"):
            assert coded.multiply(x, 2).shape == (shape[0], 3)
    except FormatError as error:
        assert str(error)
    else:
        told["products"] += 1


def other_than(tensor, payload):
    # cut short or made longer: refused, or, where every string of bits says something, another tensor
    before = told["refused"]
    judge(payload, tensor.dtype, tuple(tensor.shape))
    if told["refused"] == before:
        assert codec.name in any_bits_say_something, (codec.name, tensor.shape, payload[:40].hex())
        found = codec.decode(memoryview(payload), tensor.dtype, tuple(tensor.shape))
        assert codec.encode(found) != codec.encode(tensor), (codec.name, tensor.shape, payload[:40].hex())


def extremes(payload):
    # runs of one byte where lengths and counts may stand, at every place of the head and here and there
    for at in [*range(min(20, len(payload))), *(dice.randrange(len(payload) + 1) for _ in range(6))]:
        for filler in (b"\\xff", b"\\xff" * 8 + b"\\x7f", b"\\x80\\x80\\x80\\x80\\x10", bytes(4)):
            yield payload[:at] + filler + payload[at + len(filler):]
            yield payload[:at] + filler + payload[at:]


in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + allowed, resource.RLIM_INFINITY))
for tensor, payload in subjects:
    dtype, shape = tensor.dtype, tuple(tensor.shape)
    for length in range(0, len(payload), max(1, len(payload) // 40)):
        other_than(tensor, payload[:length])
    for more in (bytes(1), b"\\xff", bytes(100), payload[:7] or b"x"):
        other_than(tensor, payload + more)
    for _ in range(40):
        changed = bytearray(payload)
        for _ in range(dice.randint(1, 3)):
            if changed:
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        judge(bytes(changed), dtype, shape)
    for changed in extremes(payload):
        judge(changed, dtype, shape)
    for other in ((3,), (7, 3), (0, 2**40), (2**40, 0), ()):
        if other != shape:
            judge(payload, dtype, other)
for tensor, payload in subjects[:4]:
    # a payload of few values given out for as many as a small file may claim: 64 MiB
    for other in ((2**12, 2**12), (1, 2**21), (2**20, 2)):
        judge(payload, torch.float32, other)
for _ in range(300):
    judge(dice.randbytes(dice.randrange(60)), torch.float32, (dice.randrange(1, 9), dice.randrange(1, 40)))
print(json.dumps(told))
"""


@pytest.mark.parametrize("name", [codec.name for codec in codecs()])
def test_payloads_that_no_encoder_wrote(name: str) -> None:
    command = [sys.executable, "-c", WORK, name, str(MEMORY_BYTES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout)
    assert told["refused"] > 300
