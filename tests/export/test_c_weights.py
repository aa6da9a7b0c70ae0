"""Weights in flash: every form multiplies as the dense weight does, the smallest is taken, and damaged bytes do no harm."""

from __future__ import annotations

import struct
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from c_building import compile_c, needs_compiler, run
from torch import Tensor

from netpress.codecs import gap_huffman
from netpress.export._c_steps import Matrix
from netpress.export._c_weights import Coded, choose, forms, row_forms

FORMS = ("dense", "palette", "mask", "gaps", "int8")

HARNESS = """#include <stdio.h>
#include <stdlib.h>

#include "netpress_runtime.h"

static void *taken(size_t bytes) { /* no byte more than needed, so that a sanitizer sees the first one beyond */
    void *at = malloc(bytes);
    if (bytes && fread(at, bytes, 1, stdin) != 1) exit(3);
    return at;
}

int main(void) {
    uint32_t head[12];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        const uint32_t rows = head[10], columns = head[11];
        uint8_t *stream = taken(head[6]), *lengths = taken(head[7]);
        float *palette = taken(4 * (size_t)head[8]), step;
        int8_t *levels = taken(head[9]);
        if (fread(&step, 4, 1, stdin) != 1) return 3;
        float *x = taken(4 * (size_t)columns), *y = malloc(4 * (size_t)rows), *z = malloc(4 * (size_t)rows);
        uint16_t *tables = malloc(2 * NP_TABLE_ITEMS((size_t)head[4] * head[3] + 1));
        const np_weight weight = {(uint8_t)head[0], (uint8_t)head[1], (uint8_t)head[2], (uint8_t)head[3], (uint16_t)head[4], head[5],
                                  head[6], stream, lengths, head[8] ? palette : 0, levels, step};
        const np_linear linear = {weight, 0, 0, 0, 0, 0, -1e30f, 1e30f, (uint16_t)rows, columns};
        const np_conv conv = {weight, 0, 0, 0, 0, 0, 0, -1e30f, 1e30f, (uint16_t)rows, 1, (uint16_t)columns, 1, 1, 1, 1,
                              {1, 1}, {1, 1}, {1, 1}, {0, 0}};
        np_run_linear(&linear, x, 0, y, tables);
        np_run_conv(&conv, x, 0, z, 0, 0, tables);
        for (uint32_t i = 0; i < rows; i++) printf("%.9g %.9g ", (double)y[i], (double)z[i]);
        printf("\\n");
        free(stream), free(lengths), free(palette), free(levels), free(x), free(y), free(z), free(tables);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that multiplies with the weights it reads, as a linear layer and as a convolution."""
    folder = tmp_path_factory.mktemp("harness")
    for name in ("netpress_runtime.c", "netpress_runtime.h"):
        (folder / name).write_text((files("netpress.export") / "c_runtime" / name).read_text())
    (folder / "harness.c").write_text(HARNESS)
    return compile_c(folder, "harness", "harness.c", "netpress_runtime.c")


def record(coded: Coded, rows: int, columns: int, x: np.ndarray) -> bytes:
    """What the harness reads of one weight."""
    palette = b"" if coded.palette is None else coded.palette.tobytes()
    levels = b"" if coded.levels is None else coded.levels.tobytes()
    listed = 0 if coded.form in ("dense", "mask") else coded.values
    head = (FORMS.index(coded.form), coded.bits, coded.raw, coded.quotients, listed, coded.symbols, len(coded.stream))
    sizes = (len(coded.lengths), len(palette) // 4, len(levels), rows, columns)
    return b"".join(
        (
            struct.pack("=12I", *head, *sizes),
            coded.stream,
            coded.lengths,
            palette,
            levels,
            struct.pack("=f", coded.step),
            x.tobytes(),
        )
    )


def weights() -> dict[str, Tensor]:
    """Matrices, each named after what is odd about it."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(9, 300, generator=generator)
    sparse = torch.round(noise * 2) * (torch.rand(noise.shape, generator=generator) < 0.2) * 0.01
    rare = sparse * (torch.rand(noise.shape, generator=generator) < 0.02)
    empty = sparse.clone()
    empty[[0, 4, 5, 8]] = 0
    last = torch.zeros(5, 40)
    last[2, 39], last[3, 0] = 2.0, -1.0
    return {
        "all distinct": noise,
        "distinct and sparse": noise * (sparse != 0),
        "a grid and zeros": sparse,
        "a grid without zeros": torch.round(noise * 4).abs() + 1,
        "long gaps": torch.cat([rare, torch.zeros(40, 300), rare]),
        "empty rows": empty,
        "one value": torch.full((4, 7), -0.5),
        "one value and zeros": (sparse > 0) * 0.25,
        "more levels than a byte has": torch.round(noise * 100) * 0.01,
        "values on no grid": torch.tensor([0.0, 0.1, 0.37, -2.0])[torch.randint(4, (9, 300), generator=generator)],
        "one column": torch.round(torch.randn(200, 1, generator=generator)),
        "one row": sparse[:1],
        "the ends of rows": last,
        "a step a row": torch.round(noise * 30).clamp(-127, 127) * torch.logspace(-3, 2, 9).bfloat16()[:, None] + 0.0,
    }


@needs_compiler
@pytest.mark.parametrize("name", weights())
def test_every_form_multiplies_as_the_dense_weight_does(harness: Path, name: str) -> None:
    weight = weights()[name]
    x = torch.randn(weight.shape[1]).numpy()
    found = [*forms(weight), *row_forms(weight, None)]
    assert {coded.form for coded in found} >= {"dense", "mask"}
    got = run(harness, b"".join(record(coded, *weight.shape, x) for coded in found)).reshape(len(found), -1, 2)
    scales = [np.ones(len(weight), np.float32) if coded.scale is None else coded.scale for coded in found]
    expected = weight.numpy().astype(np.float64) @ x
    most = 1e-4 * np.maximum(1, np.abs(expected))
    assert (np.abs(got * np.stack(scales)[:, :, None] - expected[:, None]) <= most[:, None]).all()


def test_rows_of_whole_numbers_take_a_byte_a_value() -> None:
    weight, scale = weights()["a step a row"], torch.rand(9) + 0.5
    found = {coded.form: coded for coded in row_forms(weight, scale.numpy())}
    assert set(found) == {"int8", "palette", "gaps"}
    levels = np.frombuffer(found["int8"].stream, np.int8).reshape(weight.shape)
    assert found["int8"].scale is not None
    np.testing.assert_allclose(levels * found["int8"].scale[:, None], weight * scale[:, None], rtol=1e-6)
    chosen = choose(matrix(weight, scale))
    assert chosen.size_bytes <= weight.numel()
    assert chosen.scale_bytes == 4 * 9
    assert not list(row_forms(weights()["all distinct"], None))
    assert not list(row_forms(torch.zeros(0, 3), None))


@needs_compiler
@pytest.mark.parametrize("name", weights())
def test_damaged_bytes_are_read_within_their_arrays(harness: Path, name: str) -> None:
    weight, random = weights()[name], np.random.default_rng(2)
    x = np.ones(weight.shape[1], np.float32)
    records = []
    for coded in (*forms(weight), *row_forms(weight, None)):
        for _ in range(30):
            stream, lengths = (bytearray(part) for part in (coded.stream, coded.lengths))
            for part in (stream, lengths):
                for _ in range(random.integers(0, 4) if part else 0):
                    part[random.integers(len(part))] = random.integers(256)
            cut = int(random.integers(len(stream) + 1)) if random.integers(2) else len(stream)
            more = (
                int(random.integers(0, 50)) if coded.form == "gaps" else 0
            )  # of a mask it counts the values that are there
            wrong = replace(coded, stream=bytes(stream[:cut]), lengths=bytes(lengths), symbols=coded.symbols + more)
            records.append(record(wrong, *weight.shape, x))
    assert len(run(harness, b"".join(records))) == len(records)


def matrix(weight: Tensor, scale: Tensor | None = None) -> Matrix:
    folded = weight if scale is None else weight * scale[:, None]
    return Matrix("layer", weight, scale, folded, None)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("all distinct", "dense"),
        ("distinct and sparse", "mask"),
        ("a grid and zeros", "gaps"),
        ("a grid without zeros", "gaps"),
        ("one value and zeros", "gaps"),
        ("the ends of rows", "gaps"),
    ],
)
def test_the_smallest_form_is_taken(name: str, form: str) -> None:
    weight = weights()[name]
    chosen = choose(matrix(weight))
    assert chosen.form == form
    assert chosen.size_bytes == min(coded.size_bytes for coded in forms(weight))


def test_indices_win_where_values_are_few_and_even() -> None:
    weight = torch.randn(16).repeat(8).reshape(8, 16)  # a Huffman code takes four bits each as well, and says so
    assert choose(matrix(weight)).form == "palette"


def test_a_scale_stays_beside_a_weight_on_a_grid_and_goes_into_another() -> None:
    scale = torch.rand(9) + 0.5
    assert choose(matrix(weights()["a grid and zeros"], scale)).scale is not None
    assert choose(matrix(weights()["all distinct"], scale)).scale is None


def test_a_payload_for_small_decoders_is_an_ordinary_one() -> None:
    weight = weights()["a grid and zeros"]
    payload = gap_huffman.encode(weight, for_small=True)
    assert torch.equal(gap_huffman.decode(payload, torch.float32, tuple(weight.shape)), weight)
    parts = gap_huffman.take_apart(payload, tuple(weight.shape))
    assert parts is not None
    assert payload.endswith(parts.stream)
    assert len(parts.lengths) == len(parts.palette) * parts.quotients + 1
    ordinary = gap_huffman.take_apart(gap_huffman.encode(weight), tuple(weight.shape))
    assert ordinary is None or len(ordinary.lengths) >= len(parts.lengths)


def test_what_codes_nothing_or_lies_in_lanes_is_not_taken_apart() -> None:
    assert gap_huffman.take_apart(gap_huffman.encode(torch.zeros(3, 4)), (3, 4)) is None
    large = torch.round(torch.randn(200, 400))
    assert gap_huffman.take_apart(gap_huffman.encode(large), (200, 400)) is None
    assert gap_huffman.take_apart(gap_huffman.encode(large, for_small=True), (200, 400)) is not None
